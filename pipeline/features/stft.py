"""Magnitudes of the short-time Fourier transform."""

from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.features import Feature, Kernel, frames, spectra


class Stft(Feature):
    """Magnitude spectrogram, not centred.

    Equals `np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop_length, center=False)).T`, and for an even
    n_fft `np.abs(tf.signal.stft(y, n_fft, hop_length, fft_length=n_fft))`.
    """

    magnitudes: ClassVar[bool] = True

    n_fft: int = Field(ge=2)
    hop_length: int = Field(ge=1)

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, 1 + n_fft // 2)."""
        return frames(samples, n_fft=self.n_fft, hop_length=self.hop_length), 1 + self.n_fft // 2

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to magnitudes; bin k is at k * sample_rate / n_fft Hz."""
        del sample_rate
        return partial(_magnitudes, n_fft=self.n_fft, hop_length=self.hop_length)


def _magnitudes(waveforms: NDArray[np.float32], *, n_fft: int, hop_length: int) -> NDArray[np.float32]:
    some_clips = spectra(waveforms, n_fft=n_fft, hop_length=hop_length)
    return np.concatenate([np.abs(spectrum) for spectrum in some_clips])
