"""Waveforms → spectra: what the features have in common."""

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

# So many clips' frames stay in a core's cache from the window to the spectrum.
CLIPS_AT_A_TIME = 8


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
