"""One file per feature: waveforms → (clips, frames, bins).

The file's name is the feature's name in params.yaml, the class in it the name with a capital letter. What
several features share stands here: frames, spectra, mel bands and decibels.

Equal waveforms give equal bytes on any processor of one architecture. So there is no BLAS here, whose sums
differ with the processor, the number of rows and of threads, and none of NumPy's functions that choose their
code by the processor and do not round exactly: log10, abs of complex numbers.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.params import FILE, Choice

Precision = Literal["float32", "float64"]
# (clips, samples) float32 → (clips, frames, bins) float32.
Kernel = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# The coefficients of the windows as sums of cosines: a[0] - a[1] cos(2 pi t / T) + a[2] cos(4 pi t / T).
WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08), "boxcar": (1.0,)}

# As librosa.power_to_db has them: powers below this count as this, and a clip's decibels below its
# loudest value less this range as that.
MIN_POWER = np.float32(1e-10)
RANGE_DB = np.float32(80)
# Just below the largest float32; a power beyond it is infinite.
MAX_DB = np.float32(385.3)


class Feature(Choice):
    """A feature and its parameters, `features.<name>`."""

    # Whether the values are magnitudes, none below 0, on a linear scale.
    magnitudes: ClassVar[bool] = False

    dtype: Literal["float32", "float16"]

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, bins) of a clip of `samples` samples; frames below 1 if it is too short."""

    def mistakes(self, sample_rate: int, samples: int) -> list[str]:
        """Return what keeps it from clips of `samples` samples at `sample_rate` Hz, a line for each."""
        del sample_rate
        if min(self.shape(samples)) > 0:
            return []
        return [f"{self._key()} has no frame in {samples} samples: lower its n_fft, or raise audio.duration"]

    def _key(self) -> str:
        return f"{FILE}: features.{type(self).__name__.lower()}"

    @abstractmethod
    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function that computes the feature of waveforms recorded at `sample_rate` Hz.

        It is made once and pickled to the processes that call it, with a few clips at a time, whose
        arrays then stay in a core's cache. It takes (clips, samples) float32 and returns (clips, frames,
        bins) float32. A clip's values depend on that clip alone: not on how many are passed at once, nor
        on which.
        """


class Spectral(Feature):
    """A feature of the short-time Fourier transform's frames, and how these are cut."""

    n_fft: int = Field(ge=2)
    win_length: int = Field(ge=1)
    hop_length: int = Field(ge=1)
    window: Literal["hann", "hamming", "blackman", "boxcar"]
    center: bool

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.win_length > self.n_fft:
            raise ValueError(
                f"must have win_length no greater than n_fft, has {self.win_length} and {self.n_fft}"
            )
        return self

    def frames(self, samples: int) -> int:
        """Return the number of frames of a clip of `samples` samples; 0 if it is too short."""
        padded = samples + 2 * (self.n_fft // 2) if self.center else samples
        return max(0, 1 + (padded - self.n_fft) // self.hop_length)

    def spectra(self, precision: Precision = "float32") -> "Spectra":
        """Return the function from waveforms to spectra; it computes in `precision`."""
        return Spectra(
            self.n_fft, self.win_length, self.hop_length, self.window, center=self.center, precision=precision
        )


class Spectra:
    """The short-time Fourier transform.

    `librosa.stft(y, n_fft=n_fft, win_length=win_length, hop_length=hop_length, window=window,
    center=center).T`: frames start every `hop_length` samples and are multiplied by a periodic window, in
    their middle where it is shorter. Centred frames have half a frame of zeros before the clip's first
    sample and after its last.
    """

    def __init__(
        self,
        n_fft: int,
        win_length: int,
        hop_length: int,
        window: str,
        *,
        center: bool,
        precision: Precision = "float32",
    ) -> None:
        self._hop_length = hop_length
        self._padding = n_fft // 2 if center else 0
        # scipy.signal has these windows too, and takes two seconds to import.
        angle = 2 * np.pi * np.arange(win_length) / win_length
        weights = sum(a * (-1) ** k * np.cos(k * angle) for k, a in enumerate(WINDOWS[window]))
        if win_length == 1:  # not the first value of a longer window, which may be 0
            weights = np.ones(1)
        before = (n_fft - win_length) // 2
        self._window = np.pad(weights, (before, n_fft - win_length - before)).astype(precision)

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the spectra of `waveforms` (clips, samples): (clips, frames, 1 + n_fft // 2)."""
        clips, samples = waveforms.shape
        padded = np.zeros((clips, samples + 2 * self._padding), self._window.dtype)
        padded[:, self._padding : self._padding + samples] = waveforms
        framed = np.lib.stride_tricks.sliding_window_view(padded, len(self._window), axis=1)
        spectra = scipy.fft.rfft(framed[:, :: self._hop_length] * self._window, axis=-1, overwrite_x=True)
        return np.asarray(spectra, np.complex64)

    def power(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared magnitudes of the spectra: (clips, frames, 1 + n_fft // 2)."""
        spectra = self(waveforms)
        with np.errstate(over="ignore"):  # whoever writes the rows says which clip it is
            power = np.square(spectra.real)
            power += np.square(spectra.imag)
        return power


class Mel(Spectral):
    """A feature of the mel bands' decibels."""

    n_mels: int = Field(ge=1)
    fmin: float = Field(ge=0)
    fmax: float | None = Field(gt=0)

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> Self:
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError(f"must have fmax above fmin, has {self.fmax:g} and {self.fmin:g}")
        return self

    def mistakes(self, sample_rate: int, samples: int) -> list[str]:
        """Return also that no band would lie below half the sample rate."""
        found = super().mistakes(sample_rate, samples)
        if self.fmin >= sample_rate / 2:
            found.append(
                f"{self._key()}.fmin must be below half of audio.sample_rate, {sample_rate / 2:g} Hz, is"
                f" {self.fmin:g}"
            )
        return found

    def decibels(self, sample_rate: int) -> "Decibels":
        """Return the function from waveforms at `sample_rate` Hz to mel bands in dB."""
        import librosa

        filters = librosa.filters.mel(
            sr=sample_rate, n_fft=self.n_fft, n_mels=self.n_mels, fmin=self.fmin, fmax=self.fmax
        )
        # In single precision a band 80 dB below its frame's loudest is 1e-2 dB off.
        return Decibels(self.spectra("float64"), scipy.sparse.csr_array(filters))


class Decibels:
    """The log mel spectrogram, `librosa.power_to_db(librosa.feature.melspectrogram(y=y, …))`.

    Slaney's mel scale and area normalisation. Powers below 1e-10 count as 1e-10, and in each clip
    decibels more than 80 below the largest as 80 below it. A clip whose powers float32 cannot hold is
    infinite throughout.
    """

    def __init__(self, spectra: Spectra, filters: scipy.sparse.csr_array) -> None:
        self._spectra = spectra
        self._filters = filters

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the decibels of `waveforms` (clips, samples): (n_mels, clips, frames)."""
        power = self._spectra.power(waveforms)
        clips, frames, bins = power.shape
        # A sparse product adds up each band's few bins in order.
        mel = self._filters @ np.ascontiguousarray(power.reshape(-1, bins).T)
        decibels = to_decibels(np.maximum(mel, MIN_POWER)).reshape(-1, clips, frames)
        loudest = decibels.max(axis=(0, 2), keepdims=True)
        loudest[loudest > MAX_DB] = np.inf
        np.maximum(decibels, loudest - RANGE_DB, out=decibels)
        return decibels


def to_decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 10 log10 of normal numbers above 0, to 1e-5 dB, in operations that round alike everywhere.

    A number is m 2^e with m from √½ to √2, and ln m = 2 artanh z with z = (m - 1) / (m + 1), whose series
    z + z³/3 + z⁵/5 + … needs four terms here (Abramowitz & Stegun 4.1.27).
    """
    bits = power.view(np.int32)
    exponent = bits - np.float32(np.sqrt(0.5)).view(np.int32)
    exponent >>= 23
    mantissa = (bits - (exponent << 23)).view(np.float32)
    z = mantissa - 1
    z /= mantissa + 1
    square = z * z
    a1, a3, a5, a7 = (20 / np.log(10) / np.array((1, 3, 5, 7))).astype(np.float32)
    series: NDArray[np.float32] = square * a7
    for coefficient in (a5, a3):
        series += coefficient
        series *= square
    series += a1
    series *= z
    series += exponent.astype(np.float32) * np.float32(10 * np.log10(2))
    return series
