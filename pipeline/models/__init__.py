"""One file per model: (frames, bins) → logits.

The file's name is the model's name in params.yaml, the class in it the name with a capital letter.
"""

import importlib
from abc import abstractmethod
from typing import Any

from pipeline.errors import PipelineError
from pipeline.params import FILE, Section


class Model(Section):
    """A model and its parameters, `models.<name>`."""

    @abstractmethod
    def logits(self, inputs: Any, labels: int) -> Any:
        """Return the logits (clips, labels) of `inputs` (clips, frames, bins), Keras tensors both."""


def load(name: str) -> type[Model]:
    """Return the class of the model called `name`; raise PipelineError where there is none."""
    try:
        model: type[Model] = getattr(importlib.import_module(f"pipeline.models.{name}"), name.capitalize())
    except (ModuleNotFoundError, AttributeError):
        raise PipelineError(
            f"{FILE}: models.{name} has no code: expected pipeline/models/{name}.py with a class"
            f" {name.capitalize()}"
        ) from None
    return model
