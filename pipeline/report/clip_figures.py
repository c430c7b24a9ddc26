"""Draw one clip: its waveform, and a feature over time with the units that the feature declares."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.report.figures import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Values further below the loudest than this are drawn as this.
RANGE_DB = 80
SHADES = 64
STEPS = 400
PIXELS = 60_000
# The label of the vertical axis by the kind of axis that a feature declares.
AXIS_LABELS = {
    "hertz": "frequency (Hz)",
    "mel": "mel band, at (Hz)",
    "cepstrum": "cepstral coefficient",
    None: "bin",
}


class Bins(NamedTuple):
    """Where the bins are on the vertical axis, and what it is called."""

    label: str
    low: float  # the first bin
    high: float  # the last bin


def waveform(axes: "Axes", samples: NDArray[np.float32], sample_rate: int) -> None:
    """Draw the range of `samples` (samples,) over seconds, in as many steps as are visible."""
    starts = np.unique(np.linspace(0, len(samples), STEPS, endpoint=False).astype(int))
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    axes.fill_between(starts / sample_rate, low, high, color=COLORS[0], linewidth=0.5, step="post")
    axes.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, len(samples) / sample_rate))
    peak = max(1e-3, float(np.abs(samples).max()))
    axes.set_ylim(-1.05 * peak, 1.05 * peak)


def feature(axes: "Axes", values: NDArray[Any], params: dict[str, Any], *, samples: int) -> None:
    """Draw `values` (frames, bins) with a colour bar: over seconds, or over frames if they have no times.

    Args:
        axes: where to draw.
        values: one clip's row of a store.
        params: the store's parameters, `audio` and `feature`.
        samples: the clip's length.
    """
    declared = params["feature"]
    axis, times = declared.get("axis"), declared.get("frame_times")
    shown = values.astype(np.float64).T
    if declared.get("scale") == "magnitude":
        shown = decibels(shown)
    bins = _bins(axis, values.shape[1])
    bottom, top = _edges(bins, values.shape[1])
    first, step = (times["first"], times["step"]) if times else (0, 1)
    low, high = _range(shown, axis)
    image = axes.imshow(
        shown,
        aspect="auto",
        cmap=_shades(),
        extent=(
            first - step / 2,
            first + (len(values) - 0.5) * step,
            bottom,
            top,
        ),
        origin="lower",
        # The browser enlarges the few cells of a short clip. Those of a long one are merged here.
        interpolation="none" if shown.size < PIXELS else "auto",
        vmin=low,
        vmax=high,
    )
    if times:
        axes.set(xlabel="time (s)", xlim=(0, samples / params["audio"]["sample_rate"]))
    else:
        axes.set(xlabel="frame")
    axes.set(ylabel=bins.label)
    if axis and axis["kind"] == "mel":
        _mel_ticks(axes, axis, values.shape[1])
    unit = "dB" if declared.get("scale") else "value"
    bar = axes.figure.colorbar(image, ax=axes, label=unit, pad=0.02)
    bar.outline.set_visible(False)


def decibels(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 20 log10 of `magnitudes`, at least RANGE_DB below the loudest."""
    values = 20 * np.log10(np.maximum(magnitudes, 1e-10))
    clipped: NDArray[np.float64] = np.maximum(values, values.max() - RANGE_DB)
    return clipped


def _bins(axis: dict[str, Any] | None, num_bins: int) -> Bins:
    if axis is None or axis["kind"] == "mel":  # bands are drawn equally high, and labelled by _mel_ticks
        return Bins(AXIS_LABELS["mel" if axis else None], 0, num_bins - 1)
    return Bins(AXIS_LABELS[axis["kind"]], axis["low"], axis["high"])


def _edges(bins: Bins, num_bins: int) -> tuple[float, float]:
    """Return the lower edge of the first bin and the upper edge of the last."""
    if num_bins == 1 and bins.high > bins.low:
        return bins.low, bins.high
    half = (bins.high - bins.low) / max(1, 2 * (num_bins - 1)) or 0.5
    return bins.low - half, bins.high + half


def _range(shown: NDArray[np.float64], axis: dict[str, Any] | None) -> tuple[float, float]:
    """Return the values that have the first and the last colour."""
    # The first two cepstra, level and tilt, are so much larger that the others would all have one colour.
    cepstrum = axis is not None and axis["kind"] == "cepstrum" and len(shown) > 2
    scale = shown[2:] if cepstrum else shown
    finite = scale[np.isfinite(scale)]
    if not len(finite):
        return 0, 1
    return float(finite.min()), max(float(finite.max()), float(finite.min()) + 1e-6)


def _shades() -> Any:
    import matplotlib as mpl

    # Few shades make small files, and nobody sees the difference.
    return mpl.colormaps["viridis"].resampled(SHADES)


def _mel_ticks(axes: "Axes", axis: dict[str, Any], bands: int) -> None:
    import librosa

    edges = librosa.mel_frequencies(bands + 2, fmin=axis["low"], fmax=axis["high"])
    ticks = np.unique(np.linspace(0, bands - 1, min(bands, 5)).round().astype(int))
    axes.set_yticks(ticks, [f"{edges[1 + band]:.0f}" for band in ticks])
