"""One file per model: (frames, bins) → logits.

The file's name is the model's name in params.yaml, the class in it the name with a capital letter.
"""

from abc import abstractmethod
from typing import Any

from pipeline.params import Choice


class Model(Choice):
    """A model and its parameters, `models.<name>`."""

    @abstractmethod
    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins), Keras tensors both."""
