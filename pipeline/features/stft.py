"""Magnitudes of the short-time Fourier transform."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline import spectrum
from pipeline.features import Feature


class Stft(Feature):
    """Magnitude spectrogram: `np.abs(tf.signal.stft(y, n_fft, hop_length))`, not centred.

    Equals `np.abs(librosa.stft(y, n_fft=n_fft, hop_length=hop_length, center=False)).T`.
    """

    magnitudes: ClassVar[bool] = True

    n_fft: int = Field(ge=2)
    hop_length: int = Field(ge=1)

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, 1 + n_fft // 2)."""
        return spectrum.frames(samples, n_fft=self.n_fft, hop_length=self.hop_length), 1 + self.n_fft // 2

    def compute(self, waveforms: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Return the magnitudes, (clips, frames, 1 + n_fft // 2); bin k is at k * sample_rate / n_fft Hz."""
        del sample_rate
        each = spectrum.spectra(waveforms, n_fft=self.n_fft, hop_length=self.hop_length)
        return np.concatenate([np.abs(some) for some in each])
