"""Mel-frequency cepstral coefficients."""

import functools
from typing import Self

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline import spectrum
from pipeline.features import Feature

# As librosa.power_to_db has them: powers below this count as this, and a clip's decibels below its
# loudest value less this range as that.
MIN_POWER = np.float32(1e-10)
RANGE_DB = np.float32(80)


class Mfcc(Feature):
    """MFCC: the DCT-II of the log mel spectrogram, as `librosa.feature.mfcc` computes it.

    Equals `librosa.feature.mfcc(y=y, sr=sample_rate, n_mfcc=n_mfcc, n_fft=n_fft, hop_length=hop_length,
    n_mels=n_mels).T`: centred frames, padded with zeros; Slaney's mel scale and area normalisation.
    """

    n_mfcc: int = Field(ge=1)
    n_mels: int = Field(ge=1)
    n_fft: int = Field(ge=2)
    hop_length: int = Field(ge=1)

    @model_validator(mode="after")
    def _no_more_cepstra_than_bands(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(
                f"must have n_mfcc no greater than n_mels, has n_mfcc {self.n_mfcc} and n_mels {self.n_mels}"
            )
        return self

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, n_mfcc)."""
        padded = samples + 2 * (self.n_fft // 2)
        return spectrum.frames(padded, n_fft=self.n_fft, hop_length=self.hop_length), self.n_mfcc

    def compute(self, waveforms: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """Return the cepstra, (clips, frames, n_mfcc), of the mel spectrogram in dB."""
        half = self.n_fft // 2
        padded = np.pad(waveforms, ((0, 0), (half, half)))
        each = spectrum.spectra(padded, n_fft=self.n_fft, hop_length=self.hop_length)
        return np.concatenate([self._cepstra(some, sample_rate) for some in each])

    def _cepstra(self, spectra: NDArray[np.complex64], sample_rate: int) -> NDArray[np.float32]:
        clips, frames, bins = spectra.shape
        power = (spectra.real**2 + spectra.imag**2).reshape(-1, bins)
        # A sparse product adds up one frame's few bins in order. The last bits of a dense one, by BLAS,
        # differ with the number of rows, of threads, and the processor.
        mel = (_mel_filters(sample_rate, self.n_fft, self.n_mels) @ power.T).T.reshape(clips, frames, -1)
        decibels = 10 * np.log10(np.maximum(mel, MIN_POWER))
        loudest = decibels.max(axis=(1, 2), keepdims=True)
        decibels = np.maximum(decibels, loudest - RANGE_DB)
        cepstra: NDArray[np.float32] = scipy.fft.dct(decibels, norm="ortho", axis=-1)[..., : self.n_mfcc]
        return cepstra


@functools.cache
def _mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> scipy.sparse.csr_array:
    import librosa

    return scipy.sparse.csr_array(librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels))
