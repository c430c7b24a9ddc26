"""One file per model: (frames, bins) → logits.

The file's name is the model's name in params.yaml, the class in it the name with a capital letter.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from pipeline.params import Choice


class Model(Choice):
    """A model and its parameters, `models.<name>`; under `train` there, what of `train` it has otherwise."""

    train: dict[str, Any] = Field(default_factory=dict)

    @abstractmethod
    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins), Keras tensors both.

        Raises ValueError where it cannot take the inputs' shape.
        """

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        """Yield the epoch that each part of training ends with, and its part of the learning rate.

        What of `network` is trained may be set before each is yielded.
        """
        del network
        yield epochs, 1.0


class Widened(Model):
    """A model all of whose numbers of channels grow with its width."""

    width: float = Field(gt=0)

    def wide(self, channels: int) -> int:
        """Return how many channels it has where it has `channels` at width 1."""
        return max(1, round(channels * self.width))
