"""A small convolutional network on the feature as an image."""

from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from pipeline.models import Model


class Cnn(Model):
    """Convolutions of 3 x 3 with ReLU, each followed by a maximum, and two dense layers after dropout."""

    filters: list[int] = Field(min_length=1)
    pool: list[PositiveInt] = Field(min_length=2, max_length=2)
    units: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _some_filters(self) -> Self:
        if min(self.filters) < 1:
            raise ValueError(f"must have filters above 0, has {self.filters}")
        return self

    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins).

        Raises ValueError where the feature has too few frames or bins for so many maxima.
        """
        from keras import layers

        _, frames, bins = inputs.shape
        image = layers.Reshape((frames, bins, 1), name="image")(inputs)
        for number, filters in enumerate(self.filters, start=1):
            image = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(image)
            _, frames, bins, _ = image.shape
            if frames < self.pool[0] or bins < self.pool[1]:
                raise ValueError(f"conv{number} has {frames} x {bins} values, pool takes {self.pool}")
            image = layers.MaxPooling2D(tuple(self.pool), name=f"pool{number}")(image)
        flat = layers.Flatten(name="flat")(image)
        flat = layers.Dropout(self.dropout, name="dropout1")(flat)
        flat = layers.Dense(self.units, activation="relu", name="dense")(flat)
        flat = layers.Dropout(self.dropout, name="dropout2")(flat)
        return layers.Dense(labels, name="logits")(flat)
