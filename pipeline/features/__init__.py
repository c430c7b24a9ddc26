"""Features: one file per feature, waveforms → (clips, frames, bins).

The `kind` of a section under `features` in params.yaml names the file, and the file defines a class of the
same name, ignoring case and underscores. This file has what several features share: frames, spectra, mel
bands and decibels.

Equal waveforms give equal bytes on every x86-64 processor. So this package uses no BLAS, whose sums depend
on the processor and on the number of rows and threads, and no NumPy function that chooses its code by the
processor and does not round exactly: exp, log10, powers, and abs of complex numbers. The same holds for the
way back, from a feature to the spectrum that has it.

A feature exists twice, side by side: as a `kernel` in NumPy, which fills the stores, and as a `graph` of
Keras operations, which exported models contain. Both compute the same up to rounding, and a test compares
them.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import PipelineError
from pipeline.needs import need_memory
from pipeline.params import Plugin, Text

Precision = Literal["float32", "float64"]
# (clips, samples) float32 → (clips, frames, bins) float32.
Kernel = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# The coefficients of the windows as sums of cosines: a[0] - a[1] cos(2 pi t / T) + a[2] cos(4 pi t / T).
WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08), "boxcar": (1.0,)}
# Squared weights below this are 0 but for rounding.
MIN_WEIGHT = 1e-20

# As in librosa.power_to_db: smaller powers count as this, and a clip's decibels are at most this far below
# its loudest value.
MIN_POWER = np.float32(1e-10)
RANGE_DB = np.float32(80)
# Just below the decibels of the largest float32. A larger power is infinite.
MAX_DB = np.float32(385.3)
# The natural logarithms of 2 and 10.
LN_2, LN_10 = 0.6931471805599453, 2.302585092994046

# The name of a feature's layer, and so a part of the names of all tensors in it.
FRONT_END = "front_end"

# The lengths of frames that a message recommends.
LONGER = [2**power for power in range(5, 18)]
# The number of steps from mel bands to a spectrum. More hardly improve it.
UPDATES = 30


class Axis(NamedTuple):
    """The meaning of a feature's bins.

    =============  =====================================================================================
    kind           low and high
    =============  =====================================================================================
    `hertz`        the frequencies of the first and last bin, in Hz; the others are equally spaced
    `mel`          the frequencies, in Hz, at which the lowest band begins and the highest ends; the bands'
                   centres are equally spaced between them on Slaney's mel scale
    `cepstrum`     the numbers of the first and last coefficient
    =============  =====================================================================================
    """

    kind: Literal["hertz", "mel", "cepstrum"]
    low: float
    high: float


class FrameTimes(NamedTuple):
    """When the frames of a feature are."""

    first: float  # seconds from the clip's start to the middle of the first frame
    step: float  # seconds from one frame to the next


class Spectrum(NamedTuple):
    """The magnitudes of a short-time Fourier transform, and how its frames were cut."""

    magnitudes: NDArray[np.float32]  # (1 + n_fft // 2, frames)
    n_fft: int
    win_length: int
    hop_length: int
    window: str
    center: bool


class NoLayerError(PipelineError):
    """A feature has no code that computes it inside a model."""


class Feature(Plugin):
    """A feature and its parameters, `features.<name>`.

    A subclass must implement `shape` and `kernel`. To export models, it must also implement `graph`. It may
    declare what its values are: `scale`, `axis`, `frame_times` and `spectrum`. Pictures, sounds,
    normalisation and augmentation use these declarations. A feature that declares nothing is drawn with the
    axes "bin" and "value", has no sound, is never taken in logarithms, and is augmented by numbers of frames
    instead of seconds.
    """

    # `magnitude`: linear and not negative. `decibel`: logarithmic. None: unknown.
    scale: ClassVar[Literal["magnitude", "decibel"] | None] = None

    kind: Text
    dtype: Literal["float32", "float16"]

    @classmethod
    def restore(cls, params: dict[str, Any]) -> "Feature":
        """Return the feature that has `params`, as `model_dump` returned them, and as stores contain them.

        Raises PipelineError if the feature's code no longer exists, or cannot have such parameters.
        """
        feature = cls.by_name(str(params.get("kind")))
        try:
            return feature(**params)
        except ValidationError as error:
            details = error.errors()[0]
            place = "".join(f"{key}: " for key in details["loc"])
            raise PipelineError(
                f"a model or a store has a feature {params['kind']} with parameters that it cannot have:"
                f" {place}{details['msg']}: create it again"
            ) from None

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, bins) of a clip of `samples` samples; frames is below 1 if it is too short."""

    @abstractmethod
    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function that computes the feature of waveforms at `sample_rate` Hz.

        The function takes (clips, samples) float32 and returns (clips, frames, bins) float32. It is pickled
        to other processes and called with a few clips at a time, so that their arrays stay in a core's
        cache. A clip's values must depend only on that clip: not on how many clips are passed together.
        """

    def graph(self, waveforms: Any, sample_rate: int) -> Any | None:
        """Return the feature of `waveforms`, computed by Keras operations, or None if there is no such code.

        Args:
            waveforms: a Keras tensor (clips, samples), float32.
            sample_rate: of the waveforms, in Hz.

        Returns:
            A Keras tensor (clips, frames, bins), float32: what `kernel` returns, up to rounding. Use only
            products, sums and other plain operations, because few converters know a Fourier transform.
        """
        del waveforms, sample_rate
        return None

    def layer(self, sample_rate: int, samples: int) -> Any:
        """Return a Keras model, to be used as a layer: waveforms (clips, samples) → the feature as stored.

        Input and output are float32. With dtype float16, the output has the values that float16 can have.

        Raises NoLayerError if the feature has no `graph`.
        """
        import keras

        waveforms = keras.Input((samples,), name="waveforms", dtype="float32")
        values = self.graph(waveforms, sample_rate)
        if values is None:
            raise NoLayerError(
                f"features of kind {self.kind} cannot be computed inside a model: implement `graph` in"
                f" pipeline/features/{self.kind}.py, or choose another feature"
            )
        if self.dtype == "float16":
            values = keras.ops.cast(keras.ops.cast(values, "float16"), "float32")
        return keras.Model(waveforms, values, name=FRONT_END)

    def axis(self, sample_rate: int) -> Axis | None:
        """Return what the bins are, or None if they are nothing in particular."""
        del sample_rate
        return None

    def frame_times(self, sample_rate: int) -> FrameTimes | None:
        """Return when the frames are, or None if they have no fixed times."""
        del sample_rate
        return None

    def spectrum(self, values: NDArray[np.float32], sample_rate: int) -> Spectrum | None:
        """Return the spectrum that has the feature `values` (frames, bins), or None if that is unknown."""
        del values, sample_rate
        return None

    def declaration(self, sample_rate: int) -> dict[str, Any]:
        """Return `scale`, `axis` and `frame_times` as JSON, as stores contain them."""
        axis, times = self.axis(sample_rate), self.frame_times(sample_rate)
        return {
            "scale": self.scale,
            "axis": axis and axis._asdict(),
            "frame_times": times and times._asdict(),
        }

    def description(self, name: str, sample_rate: int) -> dict[str, Any]:
        """Return what a store with this feature says of it: its name, its parameters and its declaration."""
        return {"name": name, "params": self.model_dump(), **self.declaration(sample_rate)}

    def problems(self, sample_rate: int, samples: int) -> list[str]:
        """Return one message for each reason why this feature cannot be computed from such clips.

        A message continues the words "features.<name>".

        Args:
            sample_rate: of the clips, in Hz.
            samples: of each clip.
        """
        del sample_rate
        if min(self.shape(samples)) > 0:
            return []
        return [f"has no frame in {samples} samples: raise audio.duration"]

    def memory(self, samples: int) -> int:
        """Return about how many bytes `kernel` takes for a clip of `samples` samples, rather too few."""
        frames, bins = self.shape(samples)
        return 4 * (samples + frames * bins)


class Spectral(Feature):
    """A feature computed from the frames of a short-time Fourier transform."""

    n_fft: int = Field(ge=2, le=2**17)
    win_length: int = Field(ge=1, le=2**17)
    hop_length: int = Field(ge=1, le=2**24)
    window: Literal["hann", "hamming", "blackman", "boxcar"]
    center: bool

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.win_length > self.n_fft:
            raise ValueError(
                f"must have win_length no greater than n_fft, has {self.win_length} and {self.n_fft}"
            )
        return self

    def problems(self, sample_rate: int, samples: int) -> list[str]:
        """Return also a message if a frame is longer than a clip, or if a clip has only one."""
        if self.n_fft > samples:
            return [
                f"has no frame in {samples} samples: lower its n_fft, {self.n_fft}, or raise audio.duration"
            ]
        if self.frames(samples) == 1:
            remedy = f"lower its hop_length, {self.hop_length}, or raise audio.duration"
            return [f"has only one frame in {samples} samples: {remedy}"]
        return super().problems(sample_rate, samples)

    def memory(self, samples: int) -> int:
        """Return the same, with the frames of waveforms in single precision."""
        return super().memory(samples) + 4 * self.frames(samples) * self.n_fft

    def frames(self, samples: int) -> int:
        """Return the number of frames of a clip of `samples` samples, or 0 if it is too short."""
        padded = samples + 2 * (self.n_fft // 2) if self.center else samples
        return max(0, 1 + (padded - self.n_fft) // self.hop_length)

    def frame_times(self, sample_rate: int) -> FrameTimes:
        """Return when the frames are."""
        first = 0 if self.center else self.n_fft / 2
        return FrameTimes(first / sample_rate, self.hop_length / sample_rate)

    def from_magnitudes(self, magnitudes: NDArray[np.float32]) -> Spectrum:
        """Return `magnitudes` (1 + n_fft // 2, frames) as a spectrum with this feature's frames."""
        return Spectrum(
            magnitudes, self.n_fft, self.win_length, self.hop_length, self.window, center=self.center
        )

    def spectra(self, precision: Precision = "float32") -> "Spectra":
        """Return the function from waveforms to spectra, computed in `precision`."""
        return Spectra(
            self.n_fft, self.win_length, self.hop_length, self.window, center=self.center, precision=precision
        )


class Spectra:
    """The short-time Fourier transform.

    It equals `librosa.stft(y, n_fft=n_fft, win_length=win_length, hop_length=hop_length, window=window,
    center=center).T`. Frames start every `hop_length` samples and are multiplied by a periodic window, which
    is centred in the frame if it is shorter. With `center`, half a frame of zeros precedes the clip's first
    sample and follows its last. Spectra and waveforms are computed in `precision`.
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
        self._n_fft = n_fft
        self._hop_length = hop_length
        self._padding = n_fft // 2 if center else 0
        # scipy.signal has these windows too, but takes two seconds to import.
        angle = 2 * np.pi * np.arange(win_length) / win_length
        weights = sum(a * (-1) ** k * np.cos(k * angle) for k, a in enumerate(WINDOWS[window]))
        if win_length == 1:  # the first value of a longer window may be 0
            weights = np.ones(1)
        before = (n_fft - win_length) // 2
        self._window = np.pad(weights, (before, n_fft - win_length - before)).astype(precision)

    def __call__(self, waveforms: NDArray[Any]) -> NDArray[Any]:
        """Return the spectra of `waveforms` (clips, samples): (clips, frames, 1 + n_fft // 2)."""
        clips, samples = waveforms.shape
        padded = np.zeros((clips, samples + 2 * self._padding), self._window.dtype)
        padded[:, self._padding : self._padding + samples] = waveforms
        framed = np.lib.stride_tricks.sliding_window_view(padded, len(self._window), axis=1)
        frames = framed[:, :: self._hop_length] * self._window
        return np.asarray(scipy.fft.rfft(frames, axis=-1, overwrite_x=True))

    def graph(self, waveforms: Any) -> Any:
        """Return the squared magnitudes, as `power` does, by Keras operations.

        The transform is one step of Cooley & Tukey 1965: with n_fft = A B, sample n = B a + b and bin
        k = i + A j, it is a sum over a, a factor for each b and i, and a sum over b. Both sums are matrix
        products. The input is real, so that bins k and n_fft - k have the same magnitude, and i needs to run
        only to A // 2.
        """
        from keras import ops

        n_fft = self._n_fft
        rows, columns = _factors(n_fft)
        need_memory(
            16 * (rows**2 + columns**2),
            f"a layer with an n_fft of {n_fft}",
            "choose a product of small numbers, such as a power of two",
        )
        half = rows // 2 + 1
        first, second = _dft(rows)[:, :half], _dft(columns)
        twiddles = np.exp(-2j * np.pi / n_fft * np.outer(range(columns), range(half)))
        bins = np.arange(1 + n_fft // 2, dtype=np.int32)
        mirrored = np.where(bins % rows < half, bins, n_fft - bins)
        frames = self._framed(waveforms)
        count = frames.shape[1]

        x = ops.reshape(frames * self._window.astype(np.float32), (-1, count, rows, columns))
        x = product(ops.transpose(x, (0, 1, 3, 2)), _real(np.hstack([first, -1j * first])))
        real, imaginary = x[..., :half], x[..., half:]
        cosines, sines = _real(twiddles), _real(-1j * twiddles)
        x = ops.concatenate([real * cosines - imaginary * sines, real * sines + imaginary * cosines], axis=2)
        x = ops.transpose(x, (0, 1, 3, 2))
        x = product(x, _real(np.block([[second, -1j * second], [1j * second, second]])))
        power = ops.square(x[..., :columns]) + ops.square(x[..., columns:])
        power = ops.reshape(power, (-1, count, half * columns))
        return ops.take(power, mirrored % rows * columns + mirrored // rows, axis=-1)

    def _framed(self, waveforms: Any) -> Any:
        """Return the frames (clips, frames, n_fft) of `waveforms` (clips, samples), Keras tensors."""
        from keras import ops

        n_fft, hop_length = self._n_fft, self._hop_length
        padded = ops.pad(waveforms, ((0, 0), (self._padding, self._padding)))
        count = 1 + (padded.shape[1] - n_fft) // hop_length
        # Frames are whole numbers of blocks, and so are the steps from one to the next.
        block = int(np.gcd(n_fft, hop_length))
        used = (count - 1) * hop_length + n_fft
        blocks = ops.reshape(padded[:, :used], (-1, used // block, block))
        starts = np.arange(count, dtype=np.int32)[:, None] * (hop_length // block)
        framed = ops.take(blocks, starts + np.arange(n_fft // block, dtype=np.int32), axis=1)
        return ops.reshape(framed, (-1, count, n_fft))

    def inverse(self, spectra: NDArray[Any]) -> NDArray[Any]:
        """Return the waveforms (clips, samples) whose spectra are nearest to `spectra`, by least squares.

        Griffin & Lim 1984, equation 6. There are (frames - 1) * hop_length + n_fft samples, less the padding.
        A sample is 0 if it is in no frame, or if the window is 0 there.
        """
        frames = scipy.fft.irfft(spectra, len(self._window), axis=-1) * self._window
        waveforms = self._overlap_add(frames)
        weights = self._overlap_add(np.broadcast_to(np.square(self._window), frames.shape))
        covered = weights > MIN_WEIGHT
        waveforms[~covered] = 0
        waveforms[covered] /= weights[covered]
        return waveforms

    def _overlap_add(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return the sums (clips, samples) of overlapping `frames` (clips, frames, n_fft)."""
        clips, count, n_fft = frames.shape
        added = np.zeros((clips, (count - 1) * self._hop_length + n_fft), frames.dtype)
        for number in range(count):
            start = number * self._hop_length
            added[:, start : start + n_fft] += frames[:, number]
        return added[:, self._padding : added.shape[1] - self._padding]

    def power(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the squared magnitudes of the spectra: (clips, frames, 1 + n_fft // 2)."""
        spectra = np.asarray(self(waveforms), np.complex64)
        with np.errstate(over="ignore"):  # the writer finds infinite values, and names the clip
            power = np.square(spectra.real)
            power += np.square(spectra.imag)
        return power


def product(values: Any, matrix: NDArray[np.float32]) -> Any:
    """Return the matrix product of `values` (clips, ..., rows), a Keras tensor, and `matrix` (rows, columns).

    `keras.ops.matmul` would compute shapes at run time, which interpreters for small devices cannot do.
    """
    from keras import ops

    flat = ops.matmul(ops.reshape(values, (-1, len(matrix))), matrix)
    return ops.reshape(flat, (-1, *values.shape[1:-1], matrix.shape[1]))


def _factors(n_fft: int) -> tuple[int, int]:
    """Return two factors of `n_fft` with which the transform of a frame takes the fewest products."""
    divisors = [number for number in range(1, n_fft + 1) if n_fft % number == 0]
    rows = min(divisors, key=lambda number: number + 2 * (n_fft // number))
    return rows, n_fft // rows


def _dft(size: int) -> NDArray[np.complex128]:
    """Return the matrix (size, size) of the discrete Fourier transform."""
    matrix: NDArray[np.complex128] = np.exp(-2j * np.pi / size * np.outer(range(size), range(size)))
    return matrix


def _real(matrix: NDArray[np.complex128]) -> NDArray[np.float32]:
    return np.ascontiguousarray(matrix.real, np.float32)


class Mel(Spectral):
    """A feature computed from the decibels of mel bands."""

    n_mels: int = Field(ge=1, le=4096)
    fmin: float = Field(ge=0, le=384_000)  # Hz
    fmax: float | None = Field(ge=1, le=384_000)  # Hz

    @model_validator(mode="after")
    def _band_is_not_empty(self) -> Self:
        if self.fmax is not None and self.fmax <= self.fmin:
            raise ValueError(f"must have fmax above fmin, has {self.fmax:g} and {self.fmin:g}")
        return self

    def problems(self, sample_rate: int, samples: int) -> list[str]:
        """Return also a message if bands are above half the sample rate, or contain no bin of the spectrum.

        There is no sound in them. Their values would be the same in all clips.
        """
        messages = super().problems(sample_rate, samples)
        half = sample_rate / 2
        if self.fmin >= half:
            messages.append(f"must have fmin below half of audio.sample_rate, {half:g} Hz, has {self.fmin:g}")
        elif (self.fmax or 0) > half:
            messages.append(
                f"must have fmax at most half of audio.sample_rate, {half:g} Hz, has {self.fmax:g}: lower it,"
                " or set it to null"
            )
        else:
            messages += self._empty_bands(sample_rate, samples)
        return messages

    def _empty_bands(self, sample_rate: int, samples: int) -> list[str]:
        def empty(n_mels: int, n_fft: int) -> int:
            return self._num_empty(sample_rate, n_mels, n_fft)

        count = empty(self.n_mels, self.n_fft)
        if not count:
            return []
        fewer = next((n for n in range(self.n_mels - 1, 0, -1) if not empty(n, self.n_fft)), None)
        sizes = [size for size in LONGER if self.n_fft < size <= samples]
        longer = next((size for size in sizes if not empty(self.n_mels, size)), None)
        remedies = [
            *([f"lower n_mels to {fewer}"] if fewer else []),
            *([f"raise n_fft to {longer}"] if longer else []),
            "widen the range from fmin to fmax",
        ]
        spacing = f"{sample_rate / self.n_fft:g} Hz"
        found = f"{count} of its {self.n_mels} mel bands contain no bin of the spectrum, one every {spacing}"
        return [f"has empty bands: {found}: {', or '.join(remedies)}"]

    def _num_empty(self, sample_rate: int, n_mels: int, n_fft: int) -> int:
        """Return how many of `n_mels` bands have only weights of 0, but for rounding."""
        low, high = (_to_mel(hertz) for hertz in (self.fmin, self.fmax or sample_rate / 2))
        edges = _from_mel(np.linspace(low, high, n_mels + 2))
        bins = np.arange(1 + n_fft // 2) * sample_rate / n_fft
        margin = (edges[2:] - edges[:-2]) * 1e-6
        inside = np.searchsorted(bins, edges[2:] - margin) - np.searchsorted(bins, edges[:-2] + margin)
        return int(np.count_nonzero(inside <= 0))

    def memory(self, samples: int) -> int:
        """Return the same, with the frames of waveforms in double precision, and with their spectra."""
        return super().memory(samples) + 8 * self.frames(samples) * self.n_fft

    def from_power(self, power: NDArray[Any], sample_rate: int) -> Spectrum:
        """Return the spectrum whose mel bands are nearest to `power` (n_mels, frames).

        The spectrum is found by multiplicative updates, which reduce the Kullback-Leibler divergence (Lee &
        Seung 2001, theorem 2). Unlike squares, it counts quiet bands too. A bin that is in no band is 0.
        """
        filters = self.filters(sample_rate).astype(np.float64)
        weights = filters.sum(axis=0)[:, None]
        weights[weights == 0] = 1
        spectrum = np.ones((1 + self.n_fft // 2, power.shape[1]))
        for _ in range(UPDATES):
            bands = filters @ spectrum
            spectrum *= filters.T @ np.divide(power, bands, out=np.zeros_like(bands), where=bands > 0)
            spectrum /= weights
        return self.from_magnitudes(np.sqrt(spectrum).astype(np.float32))

    def decibels(self, sample_rate: int) -> "Decibels":
        """Return the function from waveforms at `sample_rate` Hz to the decibels of mel bands."""
        # In single precision a band 80 dB below its frame's loudest is 1e-2 dB off.
        return Decibels(self.spectra("float64"), self.filters(sample_rate))

    def filters(self, sample_rate: int) -> scipy.sparse.csr_array:
        """Return the weights of the mel bands (n_mels, 1 + n_fft // 2), in single precision.

        Raises PipelineError if memory is too small for them, because librosa also stores the zeros.
        """
        import librosa

        need_memory(
            12 * self.n_mels * (1 + self.n_fft // 2),
            f"a feature of kind {self.kind}",
            "lower n_mels or n_fft",
        )
        return scipy.sparse.csr_array(
            librosa.filters.mel(
                sr=sample_rate, n_fft=self.n_fft, n_mels=self.n_mels, fmin=self.fmin, fmax=self.fmax
            )
        )


def _to_mel(hertz: float) -> float:
    """Return the number on Slaney's mel scale, as librosa.hz_to_mel. To import librosa takes a second."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


class Decibels:
    """The log mel spectrogram, `librosa.power_to_db(librosa.feature.melspectrogram(y=y, …))`.

    It has Slaney's mel scale and area normalisation. Powers below 1e-10 count as 1e-10, and a clip's values
    are at most 80 dB below its largest. If a power is beyond float32, the whole clip is infinite.
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

    def graph(self, waveforms: Any) -> Any:
        """Return the decibels (clips, frames, n_mels) of `waveforms` (clips, samples), Keras tensors."""
        from keras import ops

        mel = product(self._spectra.graph(waveforms), self._filters.toarray().T)
        decibels = ops.log(ops.maximum(mel, MIN_POWER)) * np.float32(10 / LN_10)
        loudest = ops.max(decibels, axis=(1, 2), keepdims=True)
        return ops.maximum(decibels, loudest - RANGE_DB)


def to_decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 10 log10 of `power`, within 1e-5 dB, by operations that round alike on every processor.

    `power` must be positive and not subnormal. A number is m 2^e with m from √½ to √2, and ln m = 2 artanh z
    with z = (m - 1) / (m + 1). Four terms of the series z + z³/3 + z⁵/5 + … are enough here (Abramowitz &
    Stegun 4.1.27).
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


def from_decibels(decibels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return 10 ** (decibels / 10), the inverse of `to_decibels`, with a relative error below 1e-8.

    Its operations, too, round alike on every processor. A power is 2^k exp x, with x from -½ ln 2 to ½ ln 2.
    The series 1 + x + x²/2! + … up to the seventh power is enough here (Abramowitz & Stegun 4.2.1).
    """
    x = decibels.astype(np.float64) * (LN_10 / 10)
    exponent = np.rint(x / LN_2).astype(np.int32)
    x -= exponent * LN_2
    series = np.ones_like(x)
    for power in range(7, 0, -1):
        series *= x / power
        series += 1
    powers: NDArray[np.float64] = np.ldexp(series, exponent)
    return powers
