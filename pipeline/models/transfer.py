"""An image network of keras.applications, pretrained on photographs, on the feature as an image.

The first `frozen_epochs` epochs train only the new last layer. The other epochs train the whole network, at
the learning rate times `fine_tuning`. Batch normalisation keeps the statistics of the pretrained weights, as
https://keras.io/guides/transfer_learning advises. With `weights: null`, no layer is frozen.

The input is any feature (clips, frames, bins). It is resized to `image` x `image` pixels and copied to all
three colour channels. The size at 96 x 96 pixels, with 8 labels:

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

# For each backbone, the grey value and the contrast that turn a normalised feature (mean 0, deviation 1) into
# pixels like those that the backbone was trained on: from 0 to 255, from -1 to 1, or standardised.
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
    weights: str | None  # `imagenet`, the path of a .weights.h5 file, or None for random weights
    image: PositiveInt  # pixels on each side
    frozen_epochs: int = Field(ge=0)
    fine_tuning: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        grey, contrast = PIXELS[self.backbone]
        x = layers.Reshape((*inputs.shape[1:], 1), name="picture")(inputs)
        x = layers.Resizing(self.image, self.image, name="resize")(x)
        x = layers.Rescaling(contrast, grey, name="grey")(x)
        x = layers.Concatenate(name="colour")([x, x, x])
        # In inference mode, because fine-tuning on a few thousand clips would spoil the statistics.
        x = self._backbone()(x, **({"training": False} if self.weights else {}))
        x = layers.Dropout(self.dropout, name="dropout")(x)
        return layers.Dense(num_labels, name="logits")(x)

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        """Yield, for each phase of training, its last epoch and its factor of the learning rate."""
        backbone = network.get_layer("backbone")
        if self.weights and self.frozen_epochs:
            backbone.trainable = False
            yield min(self.frozen_epochs, epochs), 1.0
        backbone.trainable = True
        if epochs > self.frozen_epochs or not self.weights:
            yield epochs, self.fine_tuning if self.weights else 1.0

    def _backbone(self) -> Any:
        import keras

        key = "params.yaml: models.transfer.weights"
        weights = self.weights
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise PipelineError(
                f"{key} must be imagenet, null, or a .weights.h5 file that Keras wrote, is {weights!r}, but"
                " there is no such file: correct the path"
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
                f"{key}: the weights of {self.backbone}, {weights!r}, cannot be loaded: {reason}\nIf you are"
                " offline, run on another machine: python -c 'import keras; keras.applications."
                f'{self.backbone}(include_top=False).save_weights("backbone.weights.h5")\', copy the file'
                " here, and set models.transfer.weights to its path. To train from random weights, set it to"
                " null"
            ) from None
