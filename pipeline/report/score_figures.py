"""Draw figures of a training run and of its scores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report.figures import COLORS
from pipeline.report.results import InNoise

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 10  # ranges of confidence
DASHES = ("-", "--", ":", "-.")


def durations(axes: "Axes", seconds: Sequence[float]) -> None:
    """Draw a histogram of the clips' durations."""
    shortest, longest = min(seconds), max(seconds)
    # If all clips have the same duration, the margin keeps their bar narrower than the axes.
    margin = max(0.05 * longest, (longest - shortest) / 20)
    axes.hist(
        seconds, bins=40, range=(max(0, shortest - margin), longest + margin), color=COLORS[0], linewidth=0
    )
    axes.set(xlabel="duration as recorded (s)", ylabel="clips")
    _integer_ticks(axes.yaxis)


def curves(axes: "Axes", values: Mapping[str, Sequence[float]], name: str, best: int | None = None) -> None:
    """Draw a curve over epochs, counted from 1, for each split.

    Args:
        axes: where to draw.
        values: for each split, one value per epoch.
        name: the label of the vertical axis.
        best: the epoch to mark.
    """
    for number, (split, series) in enumerate(values.items()):
        marker = "o" if len(series) == 1 else None
        axes.plot(
            range(1, 1 + len(series)), series, label=split, color=COLORS[number % len(COLORS)], marker=marker
        )
    if best is not None:
        axes.axvline(best, color=COLORS[-1], linewidth=1, linestyle=":", label="best epoch")
    longest = max(len(series) for series in values.values())
    axes.set(xlabel="epoch", ylabel=name, xlim=(0.5, longest + 0.5))
    _integer_ticks(axes.xaxis)
    axes.legend()


def reliability(axes: "Axes", confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
    """Draw a reliability diagram: the accuracy and the share of the predictions in each range of confidence.

    The arguments are those of `calibration`.
    """
    counts, mean_confidences, accuracies = calibration(confidences, correct)
    axes.plot([0, 1], [0, 1], color=COLORS[-1], linewidth=1, linestyle=":", label="perfect calibration")
    occupied = counts > 0
    axes.bar(
        np.arange(BINS)[occupied] / BINS + 0.5 / BINS,
        counts[occupied] / counts.sum(),
        width=0.9 / BINS,
        color=COLORS[5],
        alpha=0.5,
        linewidth=0,
        label="share of clips",
    )
    axes.plot(
        mean_confidences[occupied],
        accuracies[occupied],
        color=COLORS[0],
        marker="o",
        markersize=4,
        label="accuracy",
    )
    axes.set(xlabel="confidence", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")


def calibration(
    confidences: NDArray[np.float64], correct: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the number, mean confidence and accuracy of the predictions in ten equal ranges of confidence.

    Each is an array (10,). If a range has no predictions, its values are 0.

    Args:
        confidences: (clips,), the probability of the predicted label.
        correct: (clips,), whether the prediction is correct.
    """
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisors = np.maximum(counts, 1)
    mean_confidences = np.bincount(bins, weights=confidences, minlength=BINS) / divisors
    accuracies = np.bincount(bins, weights=correct, minlength=BINS) / divisors
    return counts, mean_confidences, accuracies


def calibration_error(confidences: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: the mean of |accuracy - mean confidence| (Guo et al. 2017).

    The arguments are those of `calibration`. The mean is weighted by the number of predictions in each range.
    """
    counts, mean_confidences, accuracies = calibration(confidences, correct)
    return float((counts * np.abs(accuracies - mean_confidences)).sum() / counts.sum())


def noise(axes: "Axes", scores: Sequence[InNoise]) -> None:
    """Draw the accuracy over the signal-to-noise ratio. `scores` are the rows of noise.csv."""
    snrs = [float(row.snr) for row in scores]
    axes.plot(snrs, [row.accuracy for row in scores], color=COLORS[0], marker="o", markersize=4)
    axes.set(xlabel="signal-to-noise ratio (dB)", ylabel="accuracy", xticks=snrs)


def overlaid(axes: "Axes", curves: Mapping[tuple[str, str], Sequence[float]], name: str) -> None:
    """Draw a curve over epochs for each pair (feature, model).

    Curves of one model have the same colour, and curves of one feature have the same dashes. `name` is the
    label of the vertical axis.
    """
    features = sorted({feature for feature, _ in curves})
    models = sorted({model for _, model in curves})
    for (feature, model), values in curves.items():
        axes.plot(
            range(1, 1 + len(values)),
            values,
            label=f"{feature} → {model}",
            color=COLORS[models.index(model) % len(COLORS)],
            linestyle=DASHES[features.index(feature) % len(DASHES)],
            linewidth=1.2,
            marker="." if len(values) == 1 else None,
        )
    axes.set(xlabel="epoch", ylabel=name)
    _integer_ticks(axes.xaxis)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)


def _integer_ticks(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
