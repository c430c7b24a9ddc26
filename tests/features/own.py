"""Two features of the tests' own: one that declares what it is, and one that declares nothing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from pipeline.features import Axis, Feature, Kernel, Mel, Spectra, Spectrum

LINEAR_MEL = {
    "kind": "linearmel",
    "n_mels": 40,
    "fmin": 100.0,
    "fmax": 7000.0,
    "n_fft": 512,
    "win_length": 512,
    "hop_length": 128,
    "window": "hann",
    "center": True,
    "dtype": "float32",
}
BARE = {"kind": "bare", "parts": 9, "dtype": "float32"}


class LinearMel(Mel):
    """Mel bands on a linear scale: the square root of each band's power."""

    scale: ClassVar[Literal["magnitude"]] = "magnitude"

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, n_mels)."""
        return self.frames(samples), self.n_mels

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to bands."""
        import librosa

        filters = librosa.filters.mel(
            sr=sample_rate, n_fft=self.n_fft, n_mels=self.n_mels, fmin=self.fmin, fmax=self.fmax
        )
        return partial(_bands, spectra=self.spectra(), filters=scipy.sparse.csr_array(filters))

    def axis(self, sample_rate: int) -> Axis:
        """Return the mel axis."""
        return Axis("mel", self.fmin, self.fmax or sample_rate / 2)

    def spectrum(self, values: NDArray[np.float32], sample_rate: int) -> Spectrum:
        """Return the nearest spectrum."""
        return self.from_power(np.square(values.T), sample_rate)


def _bands(
    waveforms: NDArray[np.float32], *, spectra: Spectra, filters: scipy.sparse.csr_array
) -> NDArray[np.float32]:
    power = spectra.power(waveforms)
    clips, frames, bins = power.shape
    bands = (filters @ power.reshape(-1, bins).T).reshape(-1, clips, frames)
    return np.ascontiguousarray(np.sqrt(bands).transpose(1, 2, 0), np.float32)


class Bare(Feature):
    """The loudness of a clip's parts, in thirds of a part: frames without a hop, bins without a meaning."""

    parts: int

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (parts, 3)."""
        del samples
        return self.parts, 3

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to loudness."""
        del sample_rate
        return partial(_loudness, parts=self.parts)


def _loudness(waveforms: NDArray[np.float32], *, parts: int) -> NDArray[np.float32]:
    used = waveforms.shape[1] // (3 * parts) * 3 * parts
    loudness = np.abs(waveforms[:, :used]).reshape(len(waveforms), parts, 3, -1).mean(axis=-1)
    return np.asarray(loudness, np.float32)


@contextmanager
def installed() -> Iterator[None]:
    """Make both features available by their kinds, as files in pipeline/features would be."""
    modules: dict[str, Any] = {}
    for plugin in (LinearMel, Bare):
        name = f"pipeline.features.{plugin.__name__.lower()}"
        modules[name] = ModuleType(name)
        setattr(modules[name], plugin.__name__, plugin)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
