"""An image network of keras.applications on the feature as a picture, trained on photographs before.

Its first epochs (`frozen_epochs`) train the new last layer alone, the others all of it, at the learning rate
times `fine_tuning`. Batch normalisation keeps the statistics that came with the weights, as
https://keras.io/guides/transfer_learning advises. With `weights: null` nothing is frozen.

Takes any feature: (clips, frames, bins), resized to `image` x `image` pixels, the same in all three channels.
With 8 labels, at 96 x 96 pixels:

================  ==========  =============
backbone          parameters  multiply-adds
================  ==========  =============
MobileNetV3Small  932 k       10 M
MobileNetV2       2.2 M       55 M
EfficientNetB0    4.0 M       71 M
================  ==========  =============
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from pipeline.errors import PipelineError
from pipeline.models import Model

# The grey value and the contrast at which a normalised feature, of mean 0 and deviation 1, looks to each
# network as photographs did: pixels from 0 to 255, from -1 to 1, or less their mean and over their deviation.
PIXELS = {
    "MobileNet": (0.0, 0.5),
    "MobileNetV2": (0.0, 0.5),
    "MobileNetV3Small": (127.5, 64.0),
    "EfficientNetB0": (127.5, 64.0),
    "EfficientNetV2B0": (127.5, 64.0),
    "DenseNet121": (0.0, 1.0),
    "NASNetMobile": (0.0, 0.5),
}


class Transfer(Model):
    """A backbone of keras.applications, the mean of its last feature maps, and a dense layer."""

    backbone: Literal[tuple(PIXELS)]  # type: ignore[valid-type]
    weights: str | None
    image: PositiveInt
    frozen_epochs: int = Field(ge=0)
    fine_tuning: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)

    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        grey, contrast = PIXELS[self.backbone]
        x = layers.Reshape((*inputs.shape[1:], 1), name="picture")(inputs)
        x = layers.Resizing(self.image, self.image, name="resize")(x)
        x = layers.Rescaling(contrast, grey, name="grey")(x)
        x = layers.Concatenate(name="colour")([x, x, x])
        # As inference, or fine-tuning on a few thousand clips would undo the statistics.
        x = self._backbone()(x, **({"training": False} if self.weights else {}))
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(labels, name="logits")(x)

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        """Yield the epoch that each part of training ends with, and its part of the learning rate."""
        backbone = network.get_layer("backbone")
        if self.weights and self.frozen_epochs:
            backbone.trainable = False
            yield min(self.frozen_epochs, epochs), 1.0
        backbone.trainable = True
        if epochs > self.frozen_epochs or not self.weights:
            yield epochs, self.fine_tuning if self.weights else 1.0

    def _backbone(self) -> Any:
        import keras

        where = "params.yaml: models.transfer.weights"
        weights = self.weights
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise PipelineError(
                f"{where} must be imagenet, null or a file that Keras wrote (.weights.h5), is {weights!r},"
                " and no file is there"
            )
        try:
            return getattr(keras.applications, self.backbone)(
                input_shape=(self.image, self.image, 3),
                include_top=False,
                pooling="avg",
                weights=weights,
                name="backbone",
            )
        except (OSError, ValueError) as error:
            if weights is None:
                raise
            reason = str(error).splitlines()[0]
            raise PipelineError(
                f"{where}: the weights of {self.backbone}, {weights!r}, cannot be loaded: {reason}\nWithout a"
                f" network, run on another machine: python -c 'import keras; keras.applications."
                f'{self.backbone}(include_top=False).save_weights("backbone.weights.h5")\', bring the file'
                " here, and set models.transfer.weights to its path; or set it to null, to train from nothing"
            ) from None
