"""The report on one run: its clips, its model and its mistakes, as one HTML page with pictures and sounds."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from pydantic import Field

from pipeline.corpus.clips import Clip
from pipeline.corpus.members import SILENCE, SPLITS, UNKNOWN, Member
from pipeline.files import read_csv
from pipeline.params import Section, merged
from pipeline.report import clip_figures, score_figures
from pipeline.report.figures import blank, styled, svg
from pipeline.report.html import embedded, markup, render
from pipeline.report.sounds import flac
from pipeline.store.layout import Store
from pipeline.store.reader import rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The sizes of pictures of a clip and of scores, in inches.
CLIP, SCORE = (3.5, 2.3), (4.2, 2.8)
# A browser opens no more players than this at once.
PLAYERS = 60
# How many rejected clips are listed. All are in rejects.csv.
LISTED = 50
# The libraries that the results depend on.
LIBRARIES = (
    "dvc", "h5py", "keras", "librosa", "matplotlib", "numpy", "scikit-learn", "scipy", "soundfile", "soxr",
    "tensorflow",
)  # fmt: skip


# The rows of a table, as read_csv returns them.
Table = list[dict[str, str]]


class Report(Section):
    """`report`: what the page shows of a run."""

    mistakes: int = Field(ge=0)


@dataclass(frozen=True)
class Run:
    """The parameters and outputs of a run."""

    params: dict[str, Any]
    clips: list[Clip]
    clips_checksum: str  # the XXH3-128 of clips.csv
    members: list[Member]  # what each clip is in the task, in the order of `clips`
    rejects: Table
    waveforms: Store
    feature: Store
    results: Path  # the folder `results`


def page(run: Run, settings: Report) -> str:
    """Return the page as HTML, with its pictures and sounds inside.

    It depends only on `run` and `settings`: not on the time, the machine or the git revision.
    """
    metrics = json.loads((run.results / "metrics.json").read_text(encoding="utf-8"))
    index = json.loads((run.results / "examples/index.json").read_text(encoding="utf-8"))
    predictions = read_csv(run.results / "predictions.csv")
    examples = _examples(run.results / "examples", index)
    shown = _predictions(run, settings, predictions)
    players = sum(1 + len(example["features"]) for example in examples)
    players += sum(len(clips) for clips in shown.values())
    return render(
        "report.html",
        title=f"{run.params['dataset']}: {run.params['feature']} → {run.params['model']}",
        params=run.params,
        metrics=metrics,
        clips_of={row["label"]: int(row["clips"]) for row in read_csv(run.results / "labels.csv")},
        data=_data(run),
        examples=examples,
        model=_model(run, predictions),
        predictions=shown,
        preload="metadata" if players <= PLAYERS else "none",
        training=_training(run.params),
        mistaken=sum(row["truth"] != row["prediction"] for row in predictions),
        origin=_origin(run, index),
    )


def _training(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `train` that the chosen model was trained with, and whether clips were changed."""
    overrides = params[f"models.{params['model']}"].get("train", {})
    training = merged(params["train"], overrides)
    noise = training["augment"]["noise"]
    others = [value for name, value in training["augment"].items() if name != "noise"]
    is_augmented = any([*others, noise["probability"], noise["gain"], training["label_smoothing"]])
    return {**training, "augmented": is_augmented}


# ------------------------------------------------------------------------------------------------- data


def _data(run: Run) -> dict[str, Any]:
    used = [
        (member.label, member.split, clip.speaker, member.noise)
        for clip, member in zip(run.clips, run.members, strict=True)
        if member.label
    ]
    labels = sorted({label for label, *_ in used})
    clips = Counter((label, split) for label, split, *_ in used)
    people = {(label, split, speaker) for label, split, speaker, _ in used if label != SILENCE}
    speakers = Counter((label, split) for label, split, _ in people)
    all_speakers = {split: len({who for _, other, who in people if other == split}) for split in SPLITS}
    clips_of_task = [clip for clip, member in zip(run.clips, run.members, strict=True) if member.label]
    seconds = [clip.samples / clip.sample_rate for clip in clips_of_task]
    return {
        "task": _task(run, labels),
        "splits": SPLITS,
        "rows": [
            (label, [(clips[label, split], speakers[label, split]) for split in SPLITS]) for label in labels
        ],
        "sums": [(sum(clips[label, split] for label in labels), all_speakers[split]) for split in SPLITS],
        "clips": len(used),
        "speakers": len({who for *_, who in people}),
        "rates": sorted(Counter(clip.sample_rate for clip in clips_of_task).items()),
        "seconds": sum(seconds),
        "durations": _picture(
            SCORE, "durations of the clips", lambda axes: score_figures.durations(axes, seconds)
        ),
        "rejects": _rejects(run.rejects),
    }


def _rejects(rows: Table) -> list[tuple[str, Table, int]]:
    """Return title, first rows and number of the clips that are left out, and of those taken though short."""
    rejected, taken = ([row for row in rows if row["taken"] == answer] for answer in ("no", "yes"))
    groups = [("Rejected clips", rejected[:LISTED], len(rejected))]
    if taken:
        groups.append(("Clips that are cut short, but taken", taken[:LISTED], len(taken)))
    return groups


def _task(run: Run, labels: list[str]) -> dict[str, Any]:
    """Return the words, how many clips were added to them or left out, and how much noise there is."""
    pieces = Counter(member.split for member in run.members if member.noise)
    counts = Counter(member.label for member in run.members)
    left_out = sum(not member.label and not member.noise for member in run.members)
    return {
        "words": [label for label in labels if label not in (UNKNOWN, SILENCE)],
        "unknown": counts[UNKNOWN],
        "silence": counts[SILENCE],
        "left_out": left_out,
        "noise": [(split, pieces[split]) for split in SPLITS] if pieces else [],
    }


# --------------------------------------------------------------------------------------------- examples


def _examples(folder: Path, index: dict[str, Any]) -> list[dict[str, Any]]:
    def picture(name: str) -> Markup:
        return markup((folder / f"{name}.svg").read_text(encoding="utf-8"))

    def sound(name: str) -> str:
        return embedded((folder / f"{name}.flac").read_bytes(), "audio/flac")

    return [
        {
            "clip": example["clip"],
            "label": example["label"],
            "waveform": picture(str(number)),
            "sound": sound(str(number)),
            "features": [
                {
                    "name": name,
                    "picture": picture(f"{number}-{name}"),
                    "sound": sound(f"{number}-{name}") if name in example["audible"] else None,
                }
                for name in example["features"]
            ],
        }
        for number, example in enumerate(index["clips"])
    ]


# ------------------------------------------------------------------------------------------------ model


def _model(run: Run, predictions: Table) -> dict[str, Any]:
    layers = read_csv(run.results / "layers.csv")
    best = json.loads((run.results / "train/metrics.json").read_text(encoding="utf-8"))["best"]
    scores = read_csv(run.results / "labels.csv")
    labels = [row["label"] for row in scores]
    in_noise = read_csv(run.results / "noise.csv")
    confidences = np.array([float(row["probability"]) for row in predictions])
    right = np.array([row["truth"] == row["prediction"] for row in predictions])
    counts = Counter((row["truth"], row["prediction"]) for row in predictions)
    return {
        "layers": layers,
        "parameters": sum(int(layer["parameters"]) for layer in layers),
        "best": best,
        "curves": [
            _picture(SCORE, f"{metric} by epoch", _curve(run.results, metric, name, best["epoch"]))
            for metric, name in (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy"))
        ],
        "labels": labels,
        "confusion": [
            (
                label,
                [(counts[label, guess], sum(counts[label, other] for other in labels)) for guess in labels],
            )
            for label in labels
        ],
        "scores": scores,
        "noise": _picture(SCORE, "accuracy in noise", lambda axes: score_figures.noise(axes, in_noise))
        if in_noise
        else None,
        "reliability": _picture(
            SCORE, "reliability diagram", lambda axes: score_figures.reliability(axes, confidences, right)
        ),
        "calibration_error": score_figures.calibration_error(confidences, right),
        "exported": json.loads((run.results / "export.json").read_text(encoding="utf-8")),
    }


def _curve(results: Path, metric: str, name: str, best: int) -> Callable[["Axes"], None]:
    values = {
        split: [
            float(row[metric])
            for row in read_csv(results / f"train/plots/metrics/{split}/{metric}.tsv", delimiter="\t")
        ]
        for split in ("train", "val")
    }
    return lambda axes: score_figures.curves(axes, values, name, best)


# ------------------------------------------------------------------------------------------ predictions


def _predictions(run: Run, settings: Report, predictions: Table) -> dict[str, list[dict[str, Any]]]:
    """Return the clips that the model got wrong with the most confidence, and right with the least."""
    by_confidence = sorted(predictions, key=lambda row: -float(row["probability"]))
    wrong = [row for row in by_confidence if row["truth"] != row["prediction"]]
    unsure = [row for row in by_confidence[::-1] if row["truth"] == row["prediction"]]
    row_of = {clip: row for row, clip in enumerate(run.waveforms.clips)}

    def shown(prediction: dict[str, str]) -> dict[str, Any]:
        row = row_of[prediction["clip"]]
        samples = rows(run.waveforms)[row]
        values, params = rows(run.feature)[row], run.feature.params
        return {
            **prediction,
            "probability": float(prediction["probability"]),
            "picture": _picture(
                CLIP,
                f"{run.feature.feature} of {prediction['clip']}",
                lambda axes: clip_figures.feature(axes, values, params, samples=len(samples)),
            ),
            "sound": embedded(flac(samples, params["audio"]["sample_rate"]), "audio/flac"),
        }

    return {
        "wrong": [shown(prediction) for prediction in wrong[: settings.mistakes]],
        "unsure": [shown(prediction) for prediction in unsure[: settings.mistakes]],
    }


# ----------------------------------------------------------------------------------------------- origin


def _origin(run: Run, index: dict[str, Any]) -> dict[str, Any]:
    features = {f"features.{name}": params for name, params in index["features"].items()}
    return {
        "params": _flat({**run.params, **features}),
        "clips": run.clips_checksum,
        "versions": [(library, version(library)) for library in LIBRARIES],
    }


def _flat(params: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (path, value as JSON) of each parameter."""
    lines: list[tuple[str, str]] = []
    for key, value in params.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", json.dumps(value, ensure_ascii=False)))
    return lines


def _picture(inches: tuple[float, float], name: str, draw: Callable[["Axes"], None]) -> Markup:
    with styled():
        figure = blank(*inches)
        draw(figure.subplots())
        return markup(svg(figure, name))
