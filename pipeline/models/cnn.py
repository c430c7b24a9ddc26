"""A small convolutional network on the feature as an image.

The input is a feature (clips, frames, bins). With the pools in params.yaml, it must have at least 18 frames
and 18 bins. The size with the filters and units in params.yaml, and 8 labels:

===================  ==========  =============
frames x bins        parameters  multiply-adds
===================  ==========  =============
101 x 40, log-mel    58 k        20 M
138 x 39, MFCC       58 k        28 M
134 x 257, STFT      58 k        224 M
===================  ==========  =============
"""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.models import Blocks, Channels, Dropout, Model

Pool = Annotated[int, Field(ge=1, le=100_000)]


class CNN(Model):
    """3 x 3 convolutions, the mean of the last one over frames and bins, and two dense layers.

    After each convolution come ReLU, dropout and max-pooling. No convolution is padded, and the first dense
    layer is linear.
    """

    filters: Blocks  # channels of each convolution
    # The max-pooling window after each convolution: [frames, bins].
    pool: list[Annotated[list[Pool], Field(min_length=2, max_length=2)]] = Field(max_length=64)
    units: Channels
    dropout: Dropout

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

        Raises ValueError if the feature has too few frames or bins for the convolutions and the pooling.
        """
        from keras import layers

        image = layers.Reshape((*inputs.shape[1:], 1), name="image")(inputs)
        for number, (filters, pool) in enumerate(zip(self.filters, self.pool, strict=True), start=1):
            _, frames, bins, _ = image.shape
            if frames < 2 + pool[0] or bins < 2 + pool[1]:
                raise ValueError(
                    f"the input of conv{number}, {frames} x {bins}, is too small for its kernel, [3, 3], and"
                    f" its pool, {pool}"
                )
            image = layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}")(image)
            image = layers.Dropout(self.dropout, name=f"dropout{number}")(image)
            if pool != [1, 1]:
                image = layers.MaxPooling2D(tuple(pool), name=f"pool{number}")(image)
        mean = layers.GlobalAveragePooling2D(name="mean")(image)
        dense = layers.Dense(self.units, name="dense")(mean)
        return layers.Dense(num_labels, name="logits")(dense)
