"""Mel-frequency cepstral coefficients."""

from functools import partial
from typing import Self

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.features import Feature, Kernel, frames, spectra

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
        return frames(padded, n_fft=self.n_fft, hop_length=self.hop_length), self.n_mfcc

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to the cepstra of their mel spectrogram in dB."""
        import librosa

        filters = librosa.filters.mel(sr=sample_rate, n_fft=self.n_fft, n_mels=self.n_mels)
        return partial(_cepstra, mfcc=self, filters=scipy.sparse.csr_array(filters))


def _cepstra(
    waveforms: NDArray[np.float32], *, mfcc: Mfcc, filters: scipy.sparse.csr_array
) -> NDArray[np.float32]:
    half = mfcc.n_fft // 2
    padded = np.pad(waveforms, ((0, 0), (half, half)))
    cepstra = []
    for spectrum in spectra(padded, n_fft=mfcc.n_fft, hop_length=mfcc.hop_length):
        clips, _, bins = spectrum.shape
        power = (spectrum.real**2 + spectrum.imag**2).reshape(-1, bins)
        # A sparse product adds up one frame's few bins in order. The last bits of a dense one, by BLAS,
        # differ with the number of rows, of threads, and the processor.
        mel = (filters @ power.T).T.reshape(clips, -1, filters.shape[0])
        decibels = 10 * np.log10(np.maximum(mel, MIN_POWER))
        loudest = decibels.max(axis=(1, 2), keepdims=True)
        decibels = np.maximum(decibels, loudest - RANGE_DB)
        cepstra.append(scipy.fft.dct(decibels, norm="ortho", axis=-1)[..., : mfcc.n_mfcc])
    return np.concatenate(cepstra)
