"""One file per feature: waveforms → (clips, frames, bins).

The file's name is the feature's name in params.yaml, the class in it the name with a capital letter.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.params import FILE, Choice

# So many clips' frames stay in a core's cache from the window to the spectrum.
CLIPS_AT_A_TIME = 8

Kernel = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Feature(Choice):
    """A feature and its parameters, `features.<name>`."""

    # Whether the values are magnitudes, none below 0, on a linear scale.
    magnitudes: ClassVar[bool] = False

    @abstractmethod
    def shape(self, samples: int) -> tuple[int, int]:
        """Return (frames, bins) of a clip of `samples` samples; frames below 1 if it is too short."""

    @abstractmethod
    def kernel(self, sample_rate: int) -> Kernel:
        """Return the function that computes the feature of waveforms recorded at `sample_rate` Hz.

        It is made once and pickled to the processes that call it. It takes (clips, samples) float32 and
        returns (clips, frames, bins) float32. A clip's values depend on that clip alone: not on how many
        are passed at once, nor on which.
        """


def too_short(name: str, samples: int) -> str:
    """Return what to say of the feature called `name`, where clips of `samples` samples have no frame."""
    return (
        f"{FILE}: features.{name} has no frame in a clip of {samples} samples: lower its n_fft, or raise"
        " audio.duration"
    )


def frames(samples: int, *, n_fft: int, hop_length: int) -> int:
    """Return how many whole frames of `n_fft` samples `samples` hold, `hop_length` apart; 0 if none."""
    return max(0, 1 + (samples - n_fft) // hop_length)


def spectra(
    waveforms: NDArray[np.float32], *, n_fft: int, hop_length: int
) -> Iterator[NDArray[np.complex64]]:
    """Yield the short-time Fourier transform of a few clips at a time, in order.

    Frames start every `hop_length` samples from the first sample on, are multiplied by a periodic Hann
    window and not padded: `librosa.stft(y, n_fft=n_fft, hop_length=hop_length, center=False)`,
    transposed.

    Args:
        waveforms: (clips, samples).
        n_fft: samples per frame.
        hop_length: samples from one frame to the next.

    Yields:
        (some clips, frames, 1 + n_fft // 2).
    """
    # scipy.signal has this window too, and takes two seconds to import.
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    for start in range(0, len(waveforms), CLIPS_AT_A_TIME):
        some = waveforms[start : start + CLIPS_AT_A_TIME]
        framed = np.lib.stride_tricks.sliding_window_view(some, n_fft, axis=1)[:, ::hop_length]
        yield scipy.fft.rfft(framed * window, axis=-1)
