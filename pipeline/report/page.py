"""The page on one run: its clips, its model, its mistakes, to look at and to listen to."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from pydantic import Field

from pipeline.corpus.clips import Clip
from pipeline.files import read_csv
from pipeline.params import Section
from pipeline.report import clip_figures, score_figures
from pipeline.report.figures import blank, styled, svg
from pipeline.report.html import embedded, markup, render
from pipeline.report.sounds import flac
from pipeline.store.layout import Store, digests
from pipeline.store.reader import rows

SIDES = ("train", "val", "test")
# Inches on the page, of a picture of one clip and of one of scores.
CLIP, SCORE = (3.5, 2.3), (4.2, 2.8)
# A browser opens so many players at once, and no more.
PLAYERS = 60
# Rejected clips that are listed; rejects.csv has the others.
LISTED = 50
# Whose work the results are.
LIBRARIES = (
    "dvc", "h5py", "keras", "librosa", "matplotlib", "numpy", "scikit-learn", "scipy", "soundfile", "soxr",
    "tensorflow",
)  # fmt: skip


# Of a table, as read_csv returns them.
Rows = list[dict[str, str]]


class Report(Section):
    """`report`: what of a run is shown."""

    mistakes: int = Field(ge=0)


@dataclass(frozen=True)
class Run:
    """What a run left behind, and the parameters that it had."""

    params: dict[str, Any]
    clips: list[Clip]
    waveforms: Store
    feature: Store
    folder: Path  # of results


def page(run: Run, how: Report) -> str:
    """Return the page as HTML, with its pictures and sounds inside.

    It tells nothing but what is in `run`: neither when nor where it was made.
    """
    metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    index = json.loads((run.folder / "examples/index.json").read_text(encoding="utf-8"))
    predictions = read_csv(run.folder / "predictions.csv")
    examples, shown = _examples(run.folder / "examples", index), _shown(run, how, predictions)
    players = sum(1 + len(each["features"]) for each in examples["clips"])
    players += sum(len(each) for each in shown.values())
    return render(
        "report.html",
        title=f"{run.params['dataset']}: {run.params['feature']} → {run.params['model']}",
        params=run.params,
        metrics=metrics,
        data=_data(run),
        examples=examples,
        model=_model(run, metrics, predictions),
        predictions=shown,
        preload="metadata" if players <= PLAYERS else "none",
        augmented=_augmented(run.params),
        mistaken=sum(row["truth"] != row["prediction"] for row in predictions),
        origin=_origin(run, index),
    )


def _augmented(params: dict[str, Any]) -> bool:
    """Return whether training clips were changed, or their labels smoothed."""
    own = params[f"models.{params['model']}"].get("train", {})
    augment = {**params["train"]["augment"], **own.get("augment", {})}
    return any([*augment.values(), own.get("label_smoothing", params["train"]["label_smoothing"])])


# ------------------------------------------------------------------------------------------------- data


def _data(run: Run) -> dict[str, Any]:
    sides = {row["clip"]: row["split"] for row in read_csv(Path("data/split.csv"))}
    found = [(clip.label, sides[clip.clip], clip.speaker) for clip in run.clips]
    number = Counter((label, side) for label, side, _ in found)
    speakers = Counter((label, side) for label, side, _ in set(found))
    everyone = {side: len({who for _, there, who in found if there == side}) for side in SIDES}
    labels = run.waveforms.labels
    rejects = read_csv(Path("data/rejects.csv"))
    seconds = [clip.samples / clip.sample_rate for clip in run.clips]
    return {
        "sides": SIDES,
        "rows": [
            (label, [(number[label, side], speakers[label, side]) for side in SIDES]) for label in labels
        ],
        "sums": [(sum(number[label, side] for label in labels), everyone[side]) for side in SIDES],
        "clips": len(run.clips),
        "speakers": len({clip.speaker for clip in run.clips}),
        "rates": sorted(Counter(clip.sample_rate for clip in run.clips).items()),
        "seconds": sum(seconds),
        "durations": _picture(
            SCORE, "durations of the clips", lambda axes: score_figures.durations(axes, seconds)
        ),
        "rejects": rejects[:LISTED],
        "rejected": len(rejects),
    }


# --------------------------------------------------------------------------------------------- examples


def _examples(folder: Path, index: dict[str, Any]) -> dict[str, Any]:
    def picture(name: str) -> Markup:
        return markup((folder / f"{name}.svg").read_text(encoding="utf-8"))

    def sound(name: str) -> str:
        return embedded((folder / f"{name}.flac").read_bytes(), "audio/flac")

    shown = [
        {
            "clip": each["clip"],
            "label": each["clip"].partition("/")[0],
            "waveform": picture(str(number)),
            "sound": sound(str(number)),
            "features": [
                {
                    "name": name,
                    "picture": picture(f"{number}-{name}"),
                    "sound": sound(f"{number}-{name}") if name in each["heard"] else None,
                }
                for name in each["features"]
            ],
        }
        for number, each in enumerate(index["clips"])
    ]
    agreement = index.get("agreement")
    if agreement:
        agreement = {**agreement, "pictures": {name: picture(name) for name in ("signal", "librosa")}}
    return {"clips": shown, "agreement": agreement}


# ------------------------------------------------------------------------------------------------ model


def _model(run: Run, metrics: dict[str, Any], predictions: Rows) -> dict[str, Any]:
    layers = read_csv(run.folder / "layers.csv")
    best = json.loads((run.folder / "train/metrics.json").read_text(encoding="utf-8"))["best"]
    labels = run.waveforms.labels
    confidences = np.array([float(row["probability"]) for row in predictions])
    right = np.array([row["truth"] == row["prediction"] for row in predictions])
    counts = Counter((row["truth"], row["prediction"]) for row in predictions)
    return {
        "layers": layers,
        "parameters": sum(int(layer["parameters"]) for layer in layers),
        "best": best,
        "curves": [
            _picture(SCORE, f"{metric} by epoch", _curve(run.folder, metric, name, best["epoch"]))
            for metric, name in (("loss", "cross-entropy (nats)"), ("accuracy", "share of clips right"))
        ],
        "labels": labels,
        "confusion": [
            (
                label,
                [(counts[label, guess], sum(counts[label, other] for other in labels)) for guess in labels],
            )
            for label in labels
        ],
        "scores": [(label, metrics["labels"][label]) for label in labels],
        "reliability": _picture(
            SCORE, "reliability diagram", lambda axes: score_figures.reliability(axes, confidences, right)
        ),
        "calibration_error": score_figures.calibration_error(confidences, right),
    }


def _curve(folder: Path, metric: str, name: str, best: int) -> Callable[[Axes], None]:
    values = {side: _logged(folder / f"train/plots/metrics/{side}/{metric}.tsv") for side in ("train", "val")}
    return lambda axes: score_figures.curves(axes, values, name, best)


def _logged(path: Path) -> list[float]:
    with path.open(encoding="utf-8", newline="") as file:
        return [float(row[path.stem]) for row in csv.DictReader(file, delimiter="\t")]


# ------------------------------------------------------------------------------------------ predictions


def _shown(run: Run, how: Report, predictions: Rows) -> dict[str, list[dict[str, Any]]]:
    """Return the clips that were most surely wrong, and those that were right by a hair."""
    surest = sorted(predictions, key=lambda row: -float(row["probability"]))
    wrong = [row for row in surest if row["truth"] != row["prediction"]][: how.mistakes]
    hair = [row for row in surest[::-1] if row["truth"] == row["prediction"]][: how.mistakes]
    where = {clip: row for row, clip in enumerate(run.waveforms.clips)}

    def shown(row: dict[str, str]) -> dict[str, Any]:
        place = where[row["clip"]]
        samples = rows(run.waveforms)[place]
        values, made = rows(run.feature)[place], run.feature.params
        return {
            **row,
            "probability": float(row["probability"]),
            "picture": _picture(
                CLIP,
                f"{run.feature.feature} of {row['clip']}",
                lambda axes: clip_figures.feature(axes, values, made, samples=len(samples)),
            ),
            "sound": embedded(flac(samples, made["audio"]["sample_rate"]), "audio/flac"),
        }

    return {"wrong": [shown(row) for row in wrong], "hair": [shown(row) for row in hair]}


# ----------------------------------------------------------------------------------------------- origin


def _origin(run: Run, index: dict[str, Any]) -> dict[str, Any]:
    features = {f"features.{name}": made for name, made in index["features"].items()}
    return {
        "params": _lines({**run.params, **features}),
        "clips": digests([Path("data/clips.csv").read_bytes()])[0].tobytes().hex(),
        "versions": [(library, version(library)) for library in LIBRARIES],
    }


def _lines(params: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (path, value as JSON) of each parameter."""
    found: list[tuple[str, str]] = []
    for key, value in params.items():
        if isinstance(value, dict) and value:
            found += _lines(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False)))
    return found


def _picture(inches: tuple[float, float], name: str, draw: Callable[[Axes], None]) -> Markup:
    with styled():
        figure = blank(*inches)
        draw(figure.subplots())
        return markup(svg(figure, name))
