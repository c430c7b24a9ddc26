"""Pictures of a training and of its scores."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.report.figures import COLORS

BINS = 10
DASHES = ("-", "--", ":", "-.")


def durations(axes: Axes, seconds: Sequence[float]) -> None:
    """Draw how many clips have which duration."""
    shortest, longest = min(seconds), max(seconds)
    # Clips that all last as long have a bar of their own, not one as wide as the picture.
    margin = max(0.05 * longest, (longest - shortest) / 20)
    axes.hist(
        seconds, bins=40, range=(max(0, shortest - margin), longest + margin), color=COLORS[0], linewidth=0
    )
    axes.set(xlabel="duration as recorded (s)", ylabel="clips")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def curves(axes: Axes, values: Mapping[str, Sequence[float]], name: str, best: int | None = None) -> None:
    """Draw each of `values` over epochs, counted from 1; `name` says what they are, `best` is marked."""
    for number, (side, each) in enumerate(values.items()):
        marker = "o" if len(each) == 1 else None
        axes.plot(
            range(1, 1 + len(each)), each, label=side, color=COLORS[number % len(COLORS)], marker=marker
        )
    if best is not None:
        axes.axvline(best, color=COLORS[-1], linewidth=1, linestyle=":", label="best epoch")
    longest = max(len(each) for each in values.values())
    axes.set(xlabel="epoch", ylabel=name, xlim=(0.5, longest + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def reliability(axes: Axes, confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
    """Draw how often predictions of each confidence are right, and how many there are of each."""
    number, mean, share = calibration(confidences, right)
    axes.plot([0, 1], [0, 1], color=COLORS[-1], linewidth=1, linestyle=":", label="as sure as right")
    there = number > 0
    axes.bar(
        np.arange(BINS)[there] / BINS + 0.5 / BINS,
        number[there] / number.sum(),
        width=0.9 / BINS,
        color=COLORS[5],
        alpha=0.5,
        linewidth=0,
        label="share of the clips",
    )
    axes.plot(mean[there], share[there], color=COLORS[0], marker="o", markersize=4, label="share right")
    axes.set(xlabel="confidence", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")


def calibration(
    confidences: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the predictions in each of ten equal ranges of confidence, their mean one, and the share right.

    Args:
        confidences: (clips,), the predicted label's probability.
        right: (clips,), whether it was right.
    """
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    number = np.bincount(bins, minlength=BINS)
    least_one = np.maximum(number, 1)
    mean = np.bincount(bins, weights=confidences, minlength=BINS) / least_one
    share = np.bincount(bins, weights=right, minlength=BINS) / least_one
    return number, mean, share


def calibration_error(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: the mean of |share right - confidence| (Guo et al. 2017)."""
    number, mean, share = calibration(confidences, right)
    return float((number * np.abs(share - mean)).sum() / number.sum())


def overlaid(axes: Axes, curves: Mapping[tuple[str, str], Sequence[float]], name: str) -> None:
    """Draw a curve for each (feature, model): a colour for each model, a dash for each feature."""
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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3)
