"""Log mel filter-bank energies."""

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Axis, Decibels, Kernel, Mel, Spectrum, from_decibels


class LogMel(Mel):
    """Mel bands in dB, at most 80 dB below the clip's loudest value.

    Equals `librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sample_rate, n_fft=n_fft,
    win_length=win_length, hop_length=hop_length, window=window, center=center, n_mels=n_mels, fmin=fmin,
    fmax=fmax)).T`.
    """

    scale: ClassVar[Literal["decibel"]] = "decibel"

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, n_mels)."""
        return self.frames(samples), self.n_mels

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to decibels."""
        return partial(_bands, decibels=self.decibels(sample_rate))

    def graph(self, waveforms: Any, sample_rate: int) -> Any:
        """Return the decibels, computed by Keras operations."""
        return self.decibels(sample_rate).graph(waveforms)

    def axis(self, sample_rate: int) -> Axis:
        """Return the mel axis from `fmin` to `fmax`."""
        return Axis("mel", self.fmin, self.fmax or sample_rate / 2)

    def spectrum(self, values: NDArray[np.float32], sample_rate: int) -> Spectrum:
        """Return the spectrum whose mel bands are nearest to these."""
        return self.from_power(from_decibels(values.T), sample_rate)


def _bands(waveforms: NDArray[np.float32], *, decibels: Decibels) -> NDArray[np.float32]:
    return np.ascontiguousarray(decibels(waveforms).transpose(1, 2, 0))
