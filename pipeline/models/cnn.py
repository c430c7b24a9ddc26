"""A small convolutional network on the feature as an image.

The network of TensorFlow's tutorial, https://www.tensorflow.org/tutorials/images/cnn, has
`filters: [32, 64, 64]`, `pool: [[2, 2], [2, 2], [1, 1]]`, `padding: valid`, `units: 64` and `dropout: 0.0`.

The input is a feature (clips, frames, bins) with enough frames and bins for the pooling. The size on
134 frames x 257 bins, with 8 labels:

=====================  ==========  =============
settings               parameters  multiply-adds
=====================  ==========  =============
those of the tutorial  7.4 M       231 M
those in params.yaml   318 k       107 M
=====================  ==========  =============
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pipeline.models import Model


class CNN(Model):
    """3 x 3 convolutions with ReLU, each followed by max-pooling, then two dense layers with dropout."""

    filters: list[PositiveInt] = Field(min_length=1)
    # The max-pooling window after each convolution: [frames, bins].
    pool: list[Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]]
    padding: Literal["same", "valid"]
    units: PositiveInt
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _one_pool_per_convolution(self) -> Self:
        if len(self.pool) != len(self.filters):
            raise ValueError(
                f"must have as many entries in pool as in filters, has {len(self.pool)} and"
                f" {len(self.filters)}"
            )
        return self

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins).

        Raises ValueError if the feature has too few frames or bins for the pooling.
        """
        from keras import layers

        image = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        for number, (filters, pool) in enumerate(zip(self.filters, self.pool, strict=True), start=1):
            convolution = layers.Conv2D(
                filters, 3, padding=self.padding, activation="relu", name=f"conv{number}"
            )
            image = convolution(image)
            _, frames, bins, _ = image.shape
            if frames < pool[0] or bins < pool[1]:
                raise ValueError(
                    f"the output of conv{number}, {frames} x {bins}, is smaller than its pool, {pool}"
                )
            if pool != [1, 1]:
                image = layers.MaxPooling2D(tuple(pool), name=f"pool{number}")(image)
        flat = layers.Flatten(name="flat")(image)
        flat = layers.Dropout(self.dropout, name="dropout1")(flat)
        flat = layers.Dense(self.units, activation="relu", name="dense")(flat)
        flat = layers.Dropout(self.dropout, name="dropout2")(flat)
        return layers.Dense(num_labels, name="logits")(flat)
