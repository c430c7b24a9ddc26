"""Magnitudes of the short-time Fourier transform."""

from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Axis, Kernel, Spectra, Spectral, Spectrum

LARGE, SMALL = np.float32(1e12), np.float32(1e-12)


class STFT(Spectral):
    """Magnitude spectrogram.

    Equals `np.abs(librosa.stft(y, n_fft=n_fft, win_length=win_length, hop_length=hop_length,
    window=window, center=center)).T`. If n_fft is even, win_length equals n_fft and center is false, it also
    equals `np.abs(tf.signal.stft(y, n_fft, hop_length, fft_length=n_fft))`.
    """

    scale: ClassVar[Literal["magnitude"]] = "magnitude"

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, 1 + n_fft // 2)."""
        return self.frames(samples), 1 + self.n_fft // 2

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to magnitudes; bin k is at k * sample_rate / n_fft Hz."""
        del sample_rate
        return partial(_magnitudes, spectra=self.spectra())

    def graph(self, waveforms: Any, sample_rate: int) -> Any:
        """Return the magnitudes, computed by Keras operations."""
        from keras import ops

        del sample_rate
        return ops.sqrt(self.spectra().graph(waveforms))

    def axis(self, sample_rate: int) -> Axis:
        """Return the frequencies from 0 to that of bin n_fft // 2."""
        return Axis("hertz", 0, self.n_fft // 2 * sample_rate / self.n_fft)

    def spectrum(self, values: NDArray[np.float32], sample_rate: int) -> Spectrum:
        """Return the values themselves, which are magnitudes."""
        del sample_rate
        return self.from_magnitudes(np.ascontiguousarray(values.T))


def _magnitudes(waveforms: NDArray[np.float32], *, spectra: Spectra) -> NDArray[np.float32]:
    # Squares of very large or small values are infinite or 0. Such clips are scaled by a power of two, which
    # is exact.
    peaks = np.maximum(waveforms.max(axis=1), -waveforms.min(axis=1))
    odd = (peaks > LARGE) | (peaks < SMALL) & (peaks > 0)
    if not odd.any():
        power = spectra.power(waveforms)
        return np.sqrt(power, out=power)
    exponents = np.where(odd, np.frexp(peaks)[1], 0)[:, None]
    magnitudes = np.sqrt(spectra.power(np.ldexp(waveforms, -exponents)))
    return np.ldexp(magnitudes, exponents[:, None])
