"""A recurrent network: one LSTM over the frames, as the notebook's.

Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997, https://doi.org/10.1162/neco.1997.9.8.1735; as
Keras has it, with a bias of 1 for the forget gate at first.

Takes any feature: (clips, frames, bins). With 256 units and 8 labels:

==================  ==========  =============
frames x bins       parameters  multiply-adds
==================  ==========  =============
134 x 257, STFT     528 k       70 M
138 x 39, MFCC      305 k       42 M
==================  ==========  =============
"""

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
