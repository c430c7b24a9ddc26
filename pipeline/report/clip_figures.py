"""Pictures of one clip: its waveform, and each feature over time with the units of its bins."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline.report.figures import COLORS

# What is further below the loudest value than this is drawn as this.
RANGE_DB = 80
SHADES = 64
STEPS = 400
PIXELS = 60_000


class Axis(NamedTuple):
    """What the bins of a feature are."""

    name: str
    low: float  # of the first bin's middle, in the axis' unit
    high: float  # of the last one's
    unit: str  # of the values


def waveform(axes: Axes, samples: NDArray[np.float32], sample_rate: int) -> None:
    """Draw the range of `samples` (samples,) over seconds, in as many steps as there are to be seen."""
    starts = np.unique(np.linspace(0, len(samples), STEPS, endpoint=False).astype(int))
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    axes.fill_between(starts / sample_rate, low, high, color=COLORS[0], linewidth=0.5, step="post")
    axes.set(xlabel="time (s)", ylabel="amplitude", xlim=(0, len(samples) / sample_rate))
    peak = max(1e-3, float(np.abs(samples).max()))
    axes.set_ylim(-1.05 * peak, 1.05 * peak)


def feature(axes: Axes, values: NDArray[Any], made: dict[str, Any], *, samples: int) -> None:
    """Draw `values` (frames, bins) over seconds, with a colour bar.

    Args:
        axes: where to.
        values: one clip's row of a store.
        made: the store's parameters, `audio` and `feature`.
        samples: the clip's length.
    """
    described, sample_rate = made["feature"], made["audio"]["sample_rate"]
    axis = bins(described, sample_rate, values.shape[1])
    shown = values.astype(np.float64).T
    if described["magnitudes"]:
        shown = decibels(shown)
    low, high = _range(shown, described)
    start, step = _frames(described, sample_rate)
    half = (axis.high - axis.low) / max(1, 2 * (values.shape[1] - 1)) or 0.5
    image = axes.imshow(
        shown,
        aspect="auto",
        cmap=_shades(),
        extent=(
            start - step / 2,
            start + (len(values) - 0.5) * step,
            axis.low - half,
            axis.high + half,
        ),
        origin="lower",
        # The browser enlarges the few cells of a short clip; those of a long one are made fewer here.
        interpolation="none" if shown.size < PIXELS else "auto",
        vmin=low,
        vmax=high,
    )
    axes.set(xlabel="time (s)", ylabel=axis.name, xlim=(0, samples / sample_rate))
    if "n_mels" in described and "n_mfcc" not in described:
        _mel_ticks(axes, described, sample_rate)
    bar = axes.figure.colorbar(image, ax=axes, label=axis.unit, pad=0.02)
    bar.outline.set_visible(False)


def bins(described: dict[str, Any], sample_rate: int, number: int) -> Axis:
    """Return what the `number` bins of the feature that a store describes are."""
    if "n_mfcc" in described:
        return Axis("cepstral coefficient", 0, number - 1, "dB")
    if "n_mels" in described:
        return Axis("mel band, at (Hz)", 0, number - 1, "dB")
    if described["magnitudes"] and number == 1 + described.get("n_fft", 0) // 2:
        return Axis("frequency (Hz)", 0, (number - 1) * sample_rate / described["n_fft"], "dB")
    return Axis("bin", 0, number - 1, "dB" if described["magnitudes"] else "value")


def decibels(magnitudes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 20 log10 of `magnitudes`, RANGE_DB below the loudest at least."""
    found = 20 * np.log10(np.maximum(magnitudes, 1e-10))
    clipped: NDArray[np.float64] = np.maximum(found, found.max() - RANGE_DB)
    return clipped


def _range(shown: NDArray[np.float64], described: dict[str, Any]) -> tuple[float, float]:
    """Return the values that have the first colour and the last."""
    # The first two cepstra, level and tilt, are many times as large, and would leave the others one colour.
    scale = shown[2:] if "n_mfcc" in described and len(shown) > 2 else shown
    finite = scale[np.isfinite(scale)]
    if not len(finite):
        return 0, 1
    return float(finite.min()), max(float(finite.max()), float(finite.min()) + 1e-6)


def _shades() -> Any:
    import matplotlib as mpl

    # Few shades make small files, and no eye sees more.
    return mpl.colormaps["viridis"].resampled(SHADES)


def _frames(described: dict[str, Any], sample_rate: int) -> tuple[float, float]:
    """Return the time of the first frame's middle, and from one to the next, in seconds."""
    first = 0 if described.get("center") else described.get("n_fft", 0) / 2
    return first / sample_rate, described.get("hop_length", 1) / sample_rate


def _mel_ticks(axes: Axes, described: dict[str, Any], sample_rate: int) -> None:
    import librosa

    number = described["n_mels"]
    edges = librosa.mel_frequencies(
        number + 2, fmin=described["fmin"], fmax=described["fmax"] or sample_rate / 2
    )
    shown = np.unique(np.linspace(0, number - 1, min(number, 5)).round().astype(int))
    axes.set_yticks(shown, [f"{edges[1 + band]:.0f}" for band in shown])
