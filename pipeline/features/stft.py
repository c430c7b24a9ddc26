"""Magnitudes of the short-time Fourier transform."""

from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Kernel, Spectra, Spectral

LARGE, SMALL = np.float32(1e12), np.float32(1e-12)


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
    # Squares of very large or small values are infinite or 0: such clips are scaled, by a power of two, which
    # rounds nothing.
    peaks = np.maximum(waveforms.max(axis=1), -waveforms.min(axis=1))
    odd = (peaks > LARGE) | (peaks < SMALL) & (peaks > 0)
    if not odd.any():
        power = spectra.power(waveforms)
        return np.sqrt(power, out=power)
    exponents = np.where(odd, np.frexp(peaks)[1], 0)[:, None]
    magnitudes = np.sqrt(spectra.power(np.ldexp(waveforms, -exponents)))
    return np.ldexp(magnitudes, exponents[:, None])
