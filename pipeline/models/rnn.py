"""A recurrent network: one LSTM over the frames.

Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997, https://doi.org/10.1162/neco.1997.9.8.1735. As in
Keras, the forget gate's bias is 1 at the start.

On a GPU, Keras computes this LSTM with cuDNN. Dropout on the inputs does not prevent that, but dropout on the
recurrent state would.

The input is any feature (clips, frames, bins). The size with 256 units and 8 labels:

==================  ==========  =============
frames x bins       parameters  multiply-adds
==================  ==========  =============
101 x 40, log-mel   306 k       31 M
134 x 257, STFT     528 k       70 M
138 x 39, MFCC      305 k       42 M
==================  ==========  =============
"""

from typing import Any

from pydantic import Field

from pipeline.models import Dropout, Model


class RNN(Model):
    """An LSTM over the frames, with dropout on its inputs, and a dense layer on its last state."""

    units: int = Field(ge=1, le=4096)
    dropout: Dropout

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, bins)."""
        from keras import layers

        state = layers.LSTM(self.units, dropout=self.dropout, name="lstm")(inputs)
        return layers.Dense(num_labels, name="logits")(state)
