"""Draw one clip of each label and its features, and make them audible."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.params import Section, Seed
from pipeline.report import clip_figures, resynthesis
from pipeline.report.figures import blank, styled, svg, write_png
from pipeline.report.sounds import flac
from pipeline.store.layout import Store
from pipeline.store.reader import rows, verify

# The size of a picture, in inches.
WIDE, HIGH = 3.5, 2.3


class Examples(Section):
    """`examples`: which clips are shown, and how features are turned back into sound."""

    seed: Seed
    iterations: int = Field(ge=1, le=10_000)


def choose(labels: Sequence[str], seed: int) -> list[int]:
    """Return the row of one clip of each label, in the order of the labels. `seed` decides which clip.

    `labels` has the label of each row.
    """
    by_label: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        by_label.setdefault(label, []).append(row)
    # Each label has its own generator, so that another label does not change the choice.
    return [
        int(np.random.default_rng([seed, *label.encode()]).choice(by_label[label]))
        for label in sorted(by_label)
    ]


def write(
    folder: Path, waveforms: Store, labels: Sequence[str], features: list[Store], settings: Examples
) -> Iterable[str]:
    """Write a few files per label into `folder`; yield each clip's id when its files are written.

    `labels` has the label of each clip of `waveforms`.

    ``index.json``
        the clips, the features of each, and which of them have a sound
    ``<number>.svg``, ``<number>-<feature>.svg``
        the clip's waveform and its features
    ``<number>.flac``, ``<number>-<feature>.flac``
        the clip, and what a feature keeps of it
    ``images/<number>-<label>.png``
        all pictures of the clip in one, for `dvc plots`. DVC accepts only ASCII letters, and no name that is
        only a number
    """
    (folder / "images").mkdir(parents=True)
    chosen = choose(labels, settings.seed)
    for store in (waveforms, *features):
        verify(store, chosen)
    params = {str(store.feature): store.params["feature"]["params"] for store in features}
    index: dict[str, Any] = {"clips": [], "features": params}
    for number, row in enumerate(chosen):
        clip = waveforms.clips[row]
        sound = rows(waveforms)[row], waveforms.params["audio"]["sample_rate"]
        values = {str(store.feature): (store, rows(store)[row]) for store in features}
        _draw(folder, number, (clip, labels[row]), sound, values)
        audible = _write_sounds(folder, number, sound, values, settings)
        index["clips"].append(
            {"clip": clip, "label": labels[row], "features": list(values), "audible": audible}
        )
        yield clip
    (folder / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _draw(
    folder: Path,
    number: int,
    named: tuple[str, str],
    sound: tuple[NDArray[np.float32], int],
    values: dict[str, tuple[Store, NDArray[Any]]],
) -> None:
    clip, label = named
    samples, sample_rate = sound

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
        for panel, name in zip(axes[1:], values, strict=False):
            feature(panel, name)
            panel.set_title(name)
        for panel in axes[1 + len(values) :]:
            panel.remove()
        name = re.sub(r"[^A-Za-z0-9_-]", "_", label)
        write_png(figure, folder / "images" / f"{number}-{name}.png")


def _write_sounds(
    folder: Path,
    number: int,
    sound: tuple[NDArray[np.float32], int],
    values: dict[str, tuple[Store, NDArray[Any]]],
    settings: Examples,
) -> list[str]:
    """Write the sounds of the clip and of its features; return the names of the features that have one."""
    samples, sample_rate = sound
    (folder / f"{number}.flac").write_bytes(flac(samples, sample_rate))
    audible = []
    for name, (store, row) in values.items():
        rebuilt = resynthesis.waveform(
            row, store.params, samples=len(samples), iterations=settings.iterations, seed=settings.seed
        )
        if rebuilt is not None:
            (folder / f"{number}-{name}.flac").write_bytes(flac(rebuilt, sample_rate))
            audible.append(name)
    return audible
