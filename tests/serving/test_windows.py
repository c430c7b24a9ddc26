"""Windows over a long recording, and the words heard in them."""

import numpy as np
import pytest

from pipeline.serving.windows import heard, windows


@pytest.mark.parametrize(("samples", "count"), [(1, 1), (10, 1), (11, 2), (14, 2), (15, 3), (100, 24)])
def test_windows_cover_every_sample(samples: int, count: int) -> None:
    """Each window begins a hop after the one before, and the last one has the last sample, then silence."""
    waveform = np.arange(1, samples + 1, dtype=np.float32)
    views = windows(waveform, 10, 4)
    assert views.shape == (count, 10)
    for number, view in enumerate(views):
        expected = waveform[4 * number : 4 * number + 10]
        np.testing.assert_array_equal(view[: len(expected)], expected)
        assert not view[len(expected) :].any()
    assert views[-1].max() == samples


def test_neighbouring_windows_with_one_label_are_one_word() -> None:
    """A word lasts from its first window's start to its last one's end, with its highest probability.

    Another word in between divides it.
    """
    rows = np.array([[0.9, 0.1], [0.95, 0.05], [0.6, 0.4], [0.1, 0.9], [0.85, 0.15], [0.2, 0.8]], np.float32)
    words = heard(rows, ["go", "stop"], duration=1.0, hop=0.5, threshold=0.8)
    assert [(word.start, word.end, word.label) for word in words] == [
        (0.0, 1.5, "go"),
        (1.5, 2.5, "stop"),
        (2.0, 3.0, "go"),
        (2.5, 3.5, "stop"),
    ]
    assert [word.probability for word in words] == pytest.approx([0.95, 0.9, 0.85, 0.8])
    assert heard(rows, ["go", "stop"], duration=1.0, hop=0.5, threshold=0.99) == []


def test_unknown_words_and_silence_are_not_heard() -> None:
    """They are no words of the user's, but they divide a word that is said twice."""
    rows = np.array([[0.9, 0.0, 0.1], [0.0, 0.9, 0.1], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]], np.float32)
    words = heard(rows, ["go", "_unknown_", "_silence_"], duration=1.0, hop=0.5, threshold=0.5)
    assert [(word.start, word.label) for word in words] == [(0.0, "go"), (1.5, "go")]


def test_a_word_goes_on_over_a_weak_window() -> None:
    """A window below the threshold does not divide a word; a pause as long as a window does."""
    weak = [0.4, 0.6]
    rows = np.array([[0.9, 0.1], weak, [0.8, 0.2], weak, weak, [0.9, 0.1]], np.float32)
    words = heard(rows, ["go", "stop"], duration=0.3, hop=0.1, threshold=0.7)
    assert [(word.start, word.end) for word in words] == [(0.0, 0.5), (0.5, 0.8)]
