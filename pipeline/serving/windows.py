"""Listen to a recording that is longer than a clip: windows that overlap, and the words heard in them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Heard(NamedTuple):
    """A word in a recording."""

    start: float  # seconds
    end: float
    label: str
    probability: float  # the highest in a window


def windows(waveform: NDArray[np.float32], samples: int, hop: int) -> NDArray[np.float32]:
    """Return windows (windows, samples) of `waveform` (any length,), one every `hop` samples.

    Silence is added to the end, so that the last window has the last sample.
    """
    count = 1 + max(0, -(-(len(waveform) - samples) // hop))
    padded = np.pad(waveform, (0, max(0, (count - 1) * hop + samples - len(waveform))))
    return np.lib.stride_tricks.sliding_window_view(padded, samples)[::hop]


def heard(
    probabilities: NDArray[np.float32], labels: list[str], *, duration: float, hop: float, threshold: float
) -> list[Heard]:
    """Return the words in a recording: runs of windows with the same label.

    Args:
        probabilities: (windows, labels).
        labels: the labels' names.
        duration: of a window, in seconds.
        hop: from one window to the next, in seconds.
        threshold: the probability that a window's label must have to count.
    """
    best, peaks = probabilities.argmax(axis=1), probabilities.max(axis=1)
    words: list[Heard] = []
    last = None
    for window, (index, peak) in enumerate(zip(best.tolist(), peaks.tolist(), strict=True)):
        if peak < threshold:
            last = None
            continue
        end = window * hop + duration
        if index == last:
            words[-1] = words[-1]._replace(end=end, probability=max(peak, words[-1].probability))
        else:
            words.append(Heard(window * hop, end, labels[index], peak))
        last = index
    return words
