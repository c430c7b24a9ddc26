"""Log filter-bank energies."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Decibels, Kernel, Mel


class Logmel(Mel):
    """Mel bands in dB, 80 dB below the clip's loudest value at least.

    Equals `librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sample_rate, n_fft=n_fft,
    win_length=win_length, hop_length=hop_length, window=window, center=center, n_mels=n_mels, fmin=fmin,
    fmax=fmax)).T`.
    """

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, n_mels)."""
        return self.frames(samples), self.n_mels

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to decibels."""
        return partial(_bands, decibels=self.decibels(sample_rate))


def _bands(waveforms: NDArray[np.float32], *, decibels: Decibels) -> NDArray[np.float32]:
    return np.ascontiguousarray(decibels(waveforms).transpose(1, 2, 0))
