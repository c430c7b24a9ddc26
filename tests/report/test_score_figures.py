"""Pictures of scores, and the figures in them."""

from typing import Any

import numpy as np
import pytest

from pipeline.report import score_figures
from pipeline.report.figures import blank


def test_calibration_is_that_counted_by_hand() -> None:
    """Predictions by tenth of confidence, mean confidence and share right; the error is their distance."""
    confidences = np.array([0.91, 0.99, 1.0, 0.55, 0.55])
    right = np.array([True, True, False, True, False])
    number, mean, share = score_figures.calibration(confidences, right)
    assert number.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 3]
    assert mean[[5, 9]] == pytest.approx([0.55, (0.91 + 0.99 + 1) / 3])
    assert share[[5, 9]] == pytest.approx([0.5, 2 / 3])
    expected = (2 * 0.05 + 3 * (2.9 / 3 - 2 / 3)) / 5
    assert score_figures.calibration_error(confidences, right) == pytest.approx(expected)


def test_clips_that_all_last_as_long_are_one_bar() -> None:
    """One duration has a single bar, of all clips, around that duration."""
    axes: Any = blank(3, 2).subplots()
    score_figures.durations(axes, [1.0] * 7)
    bars = [bar for bar in axes.patches if bar.get_height()]
    assert [bar.get_height() for bar in bars] == [7]
    assert bars[0].get_x() <= 1 <= bars[0].get_x() + bars[0].get_width()
    assert bars[0].get_width() < 0.01


def test_epochs_count_from_one_and_the_best_is_marked() -> None:
    """Each side is a line from epoch 1 on, and the best epoch a line across."""
    axes: Any = blank(3, 2).subplots()
    score_figures.curves(axes, {"train": [3, 2, 1], "val": [3, 2.5, 2.7]}, "loss", best=2)
    train, val, best = axes.lines
    assert list(train.get_xdata()) == list(val.get_xdata()) == [1, 2, 3]
    assert list(best.get_xdata()) == [2, 2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "val", "best epoch"]


def test_a_single_epoch_is_a_point() -> None:
    """What a line of one point would not show is marked, in the middle of the picture."""
    axes: Any = blank(3, 2).subplots()
    score_figures.curves(axes, {"train": [3.0], "val": [2.0]}, "loss", best=1)
    assert [line.get_marker() for line in axes.lines[:2]] == ["o", "o"]
    assert axes.get_xlim() == (0.5, 1.5)


def test_models_are_told_by_colour_and_features_by_dash() -> None:
    """Curves of a model share its colour, curves of a feature its dash."""
    axes: Any = blank(3, 2).subplots()
    pairs = [(feature, model) for feature in ("mfcc", "stft") for model in ("cnn", "rnn")]
    score_figures.overlaid(axes, {pair: [1.0, 2.0] for pair in pairs}, "loss")
    lines = zip(pairs, axes.lines, strict=True)
    looks = {pair: (line.get_color(), line.get_linestyle()) for pair, line in lines}
    assert looks["mfcc", "cnn"][0] == looks["stft", "cnn"][0] != looks["stft", "rnn"][0]
    assert looks["mfcc", "cnn"][1] == looks["mfcc", "rnn"][1] != looks["stft", "rnn"][1]
