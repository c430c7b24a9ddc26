"""Listen to a recording that is longer than a clip: windows that overlap, and the words heard in them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.members import SILENCE, UNKNOWN

# Of times in seconds.
DIGITS = 6


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
    """Return the words in a recording. Overlapping windows with one label are one word.

    Unknown words and silence are not returned, but they end a word.

    Args:
        probabilities: (windows, labels).
        labels: the labels' names.
        duration: of a window, in seconds.
        hop: from one window to the next, in seconds.
        threshold: the probability that a window's label must have to count.
    """
    words: list[Heard] = []
    for window, row in enumerate(probabilities):
        index = int(row.argmax())
        label, probability = labels[index], float(row[index])
        if probability < threshold:
            continue
        start, end = round(window * hop, DIGITS), round(window * hop + duration, DIGITS)
        if words and words[-1].label == label and start < words[-1].end:
            words[-1] = words[-1]._replace(end=end, probability=max(probability, words[-1].probability))
        else:
            words.append(Heard(start, end, label, probability))
    return [word for word in words if word.label not in (UNKNOWN, SILENCE)]
