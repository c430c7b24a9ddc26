"""One clip of each label, to be looked at and listened to: what it is, and what its features keep of it."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.learning import runtime
from pipeline.params import Section
from pipeline.report import clip_figures, resynthesis
from pipeline.report.figures import blank, styled, svg, write_png
from pipeline.report.sounds import flac
from pipeline.store.layout import Store
from pipeline.store.reader import rows

# Inches, of a picture on the page, and of one of several in an image.
WIDE, HIGH = 3.5, 2.3


class Examples(Section):
    """`examples`: which clips are shown, and how well they are turned back into sound."""

    seed: int = Field(ge=0)
    iterations: int = Field(ge=1)


def choose(clips: Iterable[str], seed: int) -> list[int]:
    """Return the row of one clip of each label, in the labels' order; which one, `seed` decides."""
    by_label: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        by_label.setdefault(clip.partition("/")[0], []).append(row)
    # Each label has a generator of its own, so that another label changes nothing.
    return [
        int(np.random.default_rng([seed, *label.encode()]).choice(by_label[label]))
        for label in sorted(by_label)
    ]


def write(folder: Path, waveforms: Store, features: list[Store], how: Examples) -> Iterable[str]:
    """Write the examples into `folder`, a few files for each label; yield each clip's id when it is done.

    ``index.json``
        the clips, and for each what there is of it
    ``<number>.svg``, ``<number>-<feature>.svg``
        its waveform and its features
    ``<number>.flac``, ``<number>-<feature>.flac``
        how it sounds, and how what is left of it in a feature
    ``images/<number>-<label>.png``
        all its pictures in one, for `dvc plots`: in a name it takes ASCII letters, and no bare number
    ``signal.svg``, ``librosa.svg``
        the first clip's short-time Fourier transform by tf.signal and by librosa
    """
    (folder / "images").mkdir(parents=True)
    chosen = choose(waveforms.clips, how.seed)
    made = {str(store.feature): store.params["feature"] for store in features}
    index: dict[str, Any] = {"clips": [], "features": made}
    for number, row in enumerate(chosen):
        clip, waveform = (
            waveforms.clips[row],
            (rows(waveforms)[row], waveforms.params["audio"]["sample_rate"]),
        )
        values = {str(store.feature): (store, rows(store)[row]) for store in features}
        _draw(folder, number, clip, waveform, values)
        heard = _sound(folder, number, waveform, values, how)
        index["clips"].append({"clip": clip, "features": list(values), "heard": heard})
        yield clip
    stft = next((store for store in features if store.feature == "stft"), None)
    if stft is not None:
        index["agreement"] = _compare(folder, waveforms, chosen[0], stft)
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _draw(
    folder: Path,
    number: int,
    clip: str,
    heard: tuple[NDArray[np.float32], int],
    values: dict[str, tuple[Store, NDArray[Any]]],
) -> None:
    samples, sample_rate = heard

    def waveform(axes: Any) -> None:
        clip_figures.waveform(axes, samples, sample_rate)

    def feature(axes: Any, name: str) -> None:
        store, row = values[name]
        clip_figures.feature(axes, row, store.params, samples=len(samples))

    with styled():
        figure = blank(WIDE, HIGH)
        waveform(figure.subplots())
        (folder / f"{number}.svg").write_text(svg(figure, f"waveform of {clip}"), encoding="utf-8")
        for name in values:
            figure = blank(WIDE, HIGH)
            feature(figure.subplots(), name)
            (folder / f"{number}-{name}.svg").write_text(svg(figure, f"{name} of {clip}"), encoding="utf-8")
    with styled("black"):
        columns = 2
        lines = -(-(1 + len(values)) // columns)
        figure = blank(columns * WIDE, lines * HIGH + 0.3)
        figure.suptitle(clip)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        waveform(axes[0])
        axes[0].set_title("waveform")
        for each, name in zip(axes[1:], values, strict=False):
            feature(each, name)
            each.set_title(name)
        for each in axes[1 + len(values) :]:
            each.remove()
        label = re.sub(r"[^A-Za-z0-9_-]", "_", clip.partition("/")[0])
        write_png(figure, folder / "images" / f"{number}-{label}.png")


def _sound(
    folder: Path,
    number: int,
    heard: tuple[NDArray[np.float32], int],
    values: dict[str, tuple[Store, NDArray[Any]]],
    how: Examples,
) -> list[str]:
    """Write the clip, and what can be heard of it in its features; return the names of those features."""
    samples, sample_rate = heard
    (folder / f"{number}.flac").write_bytes(flac(samples, sample_rate))
    found = []
    for name, (store, row) in values.items():
        rebuilt = resynthesis.waveform(
            row, store.params, samples=len(samples), iterations=how.iterations, seed=how.seed
        )
        if rebuilt is not None:
            (folder / f"{number}-{name}.flac").write_bytes(flac(rebuilt, sample_rate))
            found.append(name)
    return found


def _compare(folder: Path, waveforms: Store, row: int, stft: Store) -> dict[str, Any]:
    """Draw one clip's spectrum by tf.signal and by librosa; return how far they are apart."""
    import librosa

    with runtime.quietly():
        import tensorflow as tf

    samples = rows(waveforms)[row]
    made = stft.params["feature"]
    n_fft, hop_length = made["n_fft"], made["hop_length"]
    by = {
        "signal": np.abs(tf.signal.stft(samples, n_fft, hop_length, fft_length=n_fft).numpy()),
        "librosa": np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop_length, center=False)).T,
    }
    described = {**made, "center": False, "win_length": n_fft, "window": "hann"}
    for name, values in by.items():
        with styled():
            figure = blank(WIDE, HIGH)
            clip_figures.feature(
                figure.subplots(), values, {**stft.params, "feature": described}, samples=len(samples)
            )
            (folder / f"{name}.svg").write_text(svg(figure, f"spectrum by {name}"), encoding="utf-8")
    apart = float(np.abs(by["signal"] - by["librosa"]).max())
    # Two digits: the others depend on the processor.
    return {
        "clip": waveforms.clips[row],
        "n_fft": n_fft,
        "hop_length": hop_length,
        "largest": float(f"{by['librosa'].max():.3g}"),
        "apart": float(f"{apart:.2g}"),
    }
