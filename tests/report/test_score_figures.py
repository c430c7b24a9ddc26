"""Figures of scores, and the numbers in them."""

from typing import Any

import numpy as np
import pytest

from pipeline.report import score_figures
from pipeline.report.figures import blank


def test_calibration_equals_a_count_by_hand() -> None:
    """Five predictions give the counts, mean confidences, accuracies and error that a count by hand gives."""
    confidences = np.array([0.91, 0.99, 1.0, 0.55, 0.55])
    correct = np.array([True, True, False, True, False])
    counts, mean_confidences, accuracies = score_figures.calibration(confidences, correct)
    assert counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    assert mean_confidences[[5, 9]] == pytest.approx([0.55, (0.91 + 0.99 + 1) / 3])
    assert accuracies[[5, 9]] == pytest.approx([0.5, 2 / 3])
    expected = (2 * 0.05 + 3 * (2.9 / 3 - 2 / 3)) / 5
    assert score_figures.calibration_error(confidences, correct) == pytest.approx(expected)


def test_clips_of_one_duration_are_one_narrow_bar() -> None:
    """If all clips have the same duration, one narrow bar at that duration counts all of them."""
    axes: Any = blank(3, 2).subplots()
    score_figures.durations(axes, [1.0] * 7)
    bars = [bar for bar in axes.patches if bar.get_height()]
    assert [bar.get_height() for bar in bars] == [7]
    assert bars[0].get_x() <= 1 <= bars[0].get_x() + bars[0].get_width()
    assert bars[0].get_width() < 0.01


def test_epochs_are_counted_from_one_and_the_best_is_marked() -> None:
    """Each split has a curve that starts at epoch 1, and a vertical line marks the best epoch."""
    axes: Any = blank(3, 2).subplots()
    score_figures.curves(axes, {"train": [3, 2, 1], "val": [3, 2.5, 2.7]}, "loss", best=2)
    train, val, best = axes.lines
    assert list(train.get_xdata()) == list(val.get_xdata()) == [1, 2, 3]
    assert list(best.get_xdata()) == [2, 2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "val", "best epoch"]


def test_a_single_epoch_is_a_point() -> None:
    """If there is only one epoch, each split has a marker, in the middle of the axes."""
    axes: Any = blank(3, 2).subplots()
    score_figures.curves(axes, {"train": [3.0], "val": [2.0]}, "loss", best=1)
    assert [line.get_marker() for line in axes.lines[:2]] == ["o", "o"]
    assert axes.get_xlim() == (0.5, 1.5)


def test_colours_show_models_and_dashes_show_features() -> None:
    """Curves of one model have the same colour, and curves of one feature have the same dashes."""
    axes: Any = blank(3, 2).subplots()
    pairs = [(feature, model) for feature in ("mfcc", "stft") for model in ("cnn", "rnn")]
    score_figures.overlaid(axes, {pair: [1.0, 2.0] for pair in pairs}, "loss")
    lines = zip(pairs, axes.lines, strict=True)
    looks = {pair: (line.get_color(), line.get_linestyle()) for pair, line in lines}
    assert looks["mfcc", "cnn"][0] == looks["stft", "cnn"][0] != looks["stft", "rnn"][0]
    assert looks["mfcc", "cnn"][1] == looks["mfcc", "rnn"][1] != looks["stft", "rnn"][1]
