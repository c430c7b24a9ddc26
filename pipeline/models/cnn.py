"""A small convolutional network on the feature as an image.

The notebook's has `filters: [32, 64, 64]`, `pool: [[2, 2], [2, 2], [1, 1]]`, `padding: valid`, `units: 64`
and `dropout: 0.0`: https://www.tensorflow.org/tutorials/images/cnn. With 8 labels, on 134 x 257:

=======================================  ==========  =============
                                         parameters  multiply-adds
=======================================  ==========  =============
the notebook's                           7.4 M       231 M
padding same, maxima of 4 x 2, as here   318 k       107 M
=======================================  ==========  =============

Takes any feature: (clips, frames, bins) of enough frames and bins for the maxima.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pipeline.models import Model


class Cnn(Model):
    """Convolutions of 3 x 3 with ReLU, each followed by a maximum, and two dense layers after dropout."""

    filters: list[PositiveInt] = Field(min_length=1)
    pool: list[Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]]
    padding: Literal["same", "valid"]
    units: PositiveInt
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _a_maximum_for_each_convolution(self) -> Self:
        if len(self.pool) != len(self.filters):
            raise ValueError(
                f"must have as many in pool as in filters, has {len(self.pool)} and {len(self.filters)}"
            )
        return self

    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins).

        Raises ValueError where the feature has too few frames or bins for so many maxima.
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
                raise ValueError(f"conv{number} has {frames} x {bins} values, pool takes {pool}")
            if pool != [1, 1]:
                image = layers.MaxPooling2D(tuple(pool), name=f"pool{number}")(image)
        flat = layers.Flatten(name="flat")(image)
        flat = layers.Dropout(self.dropout, name="dropout1")(flat)
        flat = layers.Dense(self.units, activation="relu", name="dense")(flat)
        flat = layers.Dropout(self.dropout, name="dropout2")(flat)
        return layers.Dense(labels, name="logits")(flat)
