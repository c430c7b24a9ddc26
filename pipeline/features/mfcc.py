"""Mel-frequency cepstral coefficients."""

from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.features import Axis, Decibels, Kernel, Mel, Spectrum, from_decibels, product


class MFCC(Mel):
    """The orthonormal DCT-II of the log mel spectrogram, as `librosa.feature.mfcc` computes it.

    Equals `librosa.feature.mfcc(y=y, sr=sample_rate, n_mfcc=n_mfcc, n_fft=n_fft, win_length=win_length,
    hop_length=hop_length, window=window, center=center, n_mels=n_mels, fmin=fmin, fmax=fmax).T`.
    """

    scale: ClassVar[Literal["decibel"]] = "decibel"

    n_mfcc: int = Field(ge=1, le=4096)

    @model_validator(mode="after")
    def _no_more_cepstra_than_bands(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(
                f"must have n_mfcc no greater than n_mels, has n_mfcc {self.n_mfcc} and n_mels {self.n_mels}"
            )
        return self

    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, n_mfcc)."""
        return self.frames(samples), self.n_mfcc

    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function from waveforms to cepstra."""
        return partial(_cepstra, decibels=self.decibels(sample_rate), n_mfcc=self.n_mfcc)

    def graph(self, waveforms: Any, sample_rate: int) -> Any:
        """Return the cepstra, computed by Keras operations."""
        cosines = scipy.fft.dct(np.eye(self.n_mels), axis=1, norm="ortho")[:, : self.n_mfcc]
        return product(self.decibels(sample_rate).graph(waveforms), cosines.astype(np.float32))

    def axis(self, sample_rate: int) -> Axis:
        """Return the numbers of the coefficients."""
        del sample_rate
        return Axis("cepstrum", 0, self.n_mfcc - 1)

    def spectrum(self, values: NDArray[np.float32], sample_rate: int) -> Spectrum:
        """Return the spectrum whose mel bands are nearest to the smooth ones of these coefficients."""
        decibels = scipy.fft.idct(values.T, n=self.n_mels, axis=0, norm="ortho")
        return self.from_power(from_decibels(decibels), sample_rate)


def _cepstra(waveforms: NDArray[np.float32], *, decibels: Decibels, n_mfcc: int) -> NDArray[np.float32]:
    cepstra = scipy.fft.dct(decibels(waveforms), axis=0, norm="ortho", overwrite_x=True)[:n_mfcc]
    return np.ascontiguousarray(cepstra.transpose(1, 2, 0))
