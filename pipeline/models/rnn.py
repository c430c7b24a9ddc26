"""A recurrent network: one LSTM over the frames."""

from typing import Any

from pydantic import Field

from pipeline.models import Model


class Rnn(Model):
    """LSTM over the frames, dropout, and a dense layer on its last state."""

    units: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)

    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        state = layers.LSTM(self.units, name="lstm")(inputs)
        state = layers.Dropout(self.dropout, name="dropout")(state)
        return layers.Dense(labels, name="logits")(state)
