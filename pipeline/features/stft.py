"""Magnitudes of the short-time Fourier transform."""

from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Kernel, Spectra, Spectral


class Stft(Spectral):
    """Magnitude spectrogram.

    Equals `np.abs(librosa.stft(y, n_fft=n_fft, win_length=win_length, hop_length=hop_length,
    window=window, center=center)).T`, and for an even n_fft without centring and with win_length = n_fft
    `np.abs(tf.signal.stft(y, n_fft, hop_length, fft_length=n_fft))`.
    """

    magnitudes: ClassVar[bool] = True

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, 1 + n_fft // 2)."""
        return self.frames(samples), 1 + self.n_fft // 2

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to magnitudes; bin k is at k * sample_rate / n_fft Hz."""
        del sample_rate
        return partial(_magnitudes, spectra=self.spectra())


def _magnitudes(waveforms: NDArray[np.float32], *, spectra: Spectra) -> NDArray[np.float32]:
    power = spectra.power(waveforms)
    return np.sqrt(power, out=power)
