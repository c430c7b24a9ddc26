"""One file per feature: waveforms → (clips, frames, bins).

The file's name is the feature's name in params.yaml, the class in it the name with a capital letter.
"""

import importlib
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.params import FILE, Section

Kernel = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Feature(Section):
    """A feature and its parameters, `features.<name>`."""

    # Whether the values are magnitudes, none below 0, on a linear scale.
    magnitudes: ClassVar[bool] = False

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, bins) of a clip of `samples` samples; frames below 1 if it is too short."""

    @abstractmethod
    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function that computes the feature of waveforms recorded at `sample_rate` Hz.

        It is made once and pickled to the processes that call it. It takes (clips, samples) float32 and
        returns (clips, frames, bins) float32. A clip's values depend on that clip alone: not on how many
        are passed at once, nor on which.
        """


def load(name: str) -> type[Feature]:
    """Return the class of the feature called `name`; raise PipelineError where there is none."""
    try:
        module = importlib.import_module(f"pipeline.features.{name}")
    except ModuleNotFoundError:
        raise PipelineError(
            f"{FILE}: features.{name} has no code: expected pipeline/features/{name}.py"
        ) from None
    feature: type[Feature] = getattr(module, name.capitalize())
    return feature


def too_short(name: str, samples: int) -> str:
    """Return what to say of the feature called `name`, where clips of `samples` samples have no frame."""
    return f"{FILE}: features.{name}.n_fft must be at most the {samples} samples of a clip"
