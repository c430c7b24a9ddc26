"""The report on one run: its clips, its model and its mistakes, as one HTML page with pictures and sounds."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

import numpy as np
from markupsafe import Markup
from pydantic import Field

from pipeline.corpus.clips import Clip, Reject
from pipeline.corpus.members import SILENCE, SPLITS, UNKNOWN, Member
from pipeline.errors import PipelineError
from pipeline.params import Section, merged
from pipeline.records import again, read_bytes, read_json
from pipeline.report import clip_figures, results, score_figures
from pipeline.report.figures import blank, styled, svg
from pipeline.report.html import embedded, picture, render
from pipeline.report.results import Exported, Index, LabelScore, Log, Metrics, Prediction
from pipeline.report.sounds import flac
from pipeline.store.layout import Store
from pipeline.store.reader import rows, verify

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


class Report(Section):
    """`report`: what the page shows of a run."""

    mistakes: int = Field(ge=0, le=1000)


@dataclass(frozen=True)
class Run:
    """The parameters and outputs of a run."""

    params: dict[str, Any]
    clips: list[Clip]
    clips_checksum: str  # the XXH3-128 of clips.csv
    members: list[Member]  # what each clip is in the task, in the order of `clips`
    rejects: list[Reject]
    waveforms: Store
    feature: Store
    results: Path  # the folder `results`


def page(run: Run, settings: Report) -> str:
    """Return the page as HTML, with its pictures and sounds inside.

    It depends only on `run` and `settings`: not on the time, the machine or the git revision.

    Raises PipelineError if a file in results/ is missing or damaged, or is of another run.
    """
    metrics = read_json(run.results / "metrics.json", Metrics)
    index = read_json(run.results / "examples/index.json", Index)
    predictions = results.PREDICTIONS.read(run.results / "predictions.csv")
    scores = results.LABELS.read(run.results / "labels.csv")
    _check(run, metrics, predictions, scores)
    examples = _examples(run, index)
    shown = _predictions(run, settings, predictions)
    players = sum(1 + len(example["features"]) for example in examples)
    players += sum(len(clips) for clips in shown.values())
    return render(
        "report.html",
        title=f"{run.params['dataset']}: {run.params['feature']} → {run.params['model']}",
        params=run.params,
        metrics=metrics,
        clips_of={row.label: row.clips for row in scores},
        data=_data(run),
        examples=examples,
        model=_model(run, metrics, predictions, scores),
        predictions=shown,
        preload="metadata" if players <= PLAYERS else "none",
        training=_training(run.params),
        mistaken=sum(row.truth != row.prediction for row in predictions),
        origin=_origin(run, index),
    )


def _check(run: Run, metrics: Metrics, predictions: list[Prediction], scores: list[LabelScore]) -> None:
    """Raise PipelineError if the scores are not those of this split, or do not belong together."""
    expected = {
        member.clip: member.label for member in run.members if member.label and member.split == "test"
    }
    labels = sorted({member.label for member in run.members} - {""})
    right = sum(row.truth == row.prediction for row in predictions)
    for name, fits in (
        ("predictions.csv", {row.clip: row.truth for row in predictions} == expected),
        ("predictions.csv", {row.prediction for row in predictions} <= set(labels)),
        ("labels.csv", [row.label for row in scores] == labels),
        ("labels.csv", {row.label: row.clips for row in scores if row.clips} == Counter(expected.values())),
        ("metrics.json", metrics.clips == len(predictions)),
        ("metrics.json", abs(metrics.accuracy * len(predictions) - right) < 1e-6 * len(predictions)),
    ):
        if not fits:
            path = run.results / name
            raise PipelineError(
                f"{path} is of another run or was changed: it does not fit the {len(expected)} test clips of"
                f" data/split.csv and their {len(labels)} labels: {again(path)}"
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


def _rejects(rows: Sequence[Reject]) -> list[tuple[str, list[Reject], int]]:
    """Return title, first rows and number of the clips that are left out, and of those taken though short."""
    rejected, taken = ([row for row in rows if row.taken == is_taken] for is_taken in (False, True))
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


def _examples(run: Run, index: Index) -> list[dict[str, Any]]:
    folder = run.results / "examples"
    label_of = {clip.clip: clip.label for clip in run.clips}
    shown = [(label_of.get(example.clip), example.label) for example in index.clips]
    if shown != [(label, label) for label in sorted(set(label_of.values()))]:
        raise PipelineError(
            f"{folder} has other clips than one of each label of data/clips.csv: {again(folder)}"
        )

    def drawn(name: str, alternative: str) -> Markup:
        path = folder / f"{name}.svg"
        try:
            return picture(read_bytes(path).decode("utf-8"), alternative)
        except (UnicodeDecodeError, ExpatError) as error:
            raise PipelineError(f"{path} is not an SVG picture: {error}: {again(folder)}") from None

    def sound(name: str) -> str:
        content = read_bytes(folder / f"{name}.flac")
        if not content.startswith(b"fLaC"):
            raise PipelineError(f"{folder / name}.flac is not a FLAC file: {again(folder)}")
        return embedded(content, "audio/flac")

    return [
        {
            "clip": example.clip,
            "label": example.label,
            "waveform": drawn(str(number), f"waveform of {example.clip}"),
            "sound": sound(str(number)),
            "features": [
                {
                    "name": name,
                    "picture": drawn(f"{number}-{name}", f"{name} of {example.clip}"),
                    "sound": sound(f"{number}-{name}") if name in example.audible else None,
                }
                for name in example.features
            ],
        }
        for number, example in enumerate(index.clips)
    ]


# ------------------------------------------------------------------------------------------------ model


def _model(
    run: Run, metrics: Metrics, predictions: list[Prediction], scores: list[LabelScore]
) -> dict[str, Any]:
    layers = results.LAYERS.read(run.results / "layers.csv")
    best = read_json(run.results / "train/metrics.json", Log).best
    if best.epoch != metrics.epoch:
        raise PipelineError(
            f"{run.results}/train/metrics.json has the best epoch {best.epoch}, metrics.json"
            f" {metrics.epoch}: they are of different runs: {again(run.results / 'metrics.json')}"
        )
    labels = [row.label for row in scores]
    in_noise = results.NOISE.read(run.results / "noise.csv")
    # Both are rounded to 6 digits. Without noise, there is neither.
    mean = float(np.mean([row.accuracy for row in in_noise])) if in_noise else -1
    if abs(mean - (-1 if metrics.noisy is None else metrics.noisy)) > 2e-6:
        path = run.results / "noise.csv"
        raise PipelineError(f"{path} and metrics.json are of different runs: {again(path)}")
    confidences = np.array([row.probability for row in predictions])
    right = np.array([row.truth == row.prediction for row in predictions])
    counts = Counter((row.truth, row.prediction) for row in predictions)
    return {
        "layers": layers,
        "parameters": sum(layer.parameters for layer in layers),
        "best": best,
        "curves": [
            _picture(SCORE, f"{metric} by epoch", _curve(run.results, metric, name, best.epoch))
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
        "exported": read_json(run.results / "export.json", Exported).root,
    }


def _curve(folder: Path, metric: str, name: str, best: int) -> Callable[["Axes"], None]:
    values = {}
    for split in ("train", "val"):
        path = folder / results.curve(split, metric)
        values[split] = [getattr(row, metric) for row in results.CURVES[metric].read(path)]
        if len(values[split]) < best:
            raise PipelineError(
                f"{path} has {len(values[split])} epochs, expected {best}, the best epoch, or more:"
                f" {again(path)}"
            )
    return lambda axes: score_figures.curves(axes, values, name, best)


# ------------------------------------------------------------------------------------------ predictions


def _predictions(
    run: Run, settings: Report, predictions: list[Prediction]
) -> dict[str, list[dict[str, Any]]]:
    """Return the clips that the model got wrong with the most confidence, and right with the least."""
    by_confidence = sorted(predictions, key=lambda row: -row.probability)
    wrong = [row for row in by_confidence if row.truth != row.prediction]
    unsure = [row for row in by_confidence[::-1] if row.truth == row.prediction]
    row_of = {clip: row for row, clip in enumerate(run.waveforms.clips)}

    def shown(prediction: Prediction) -> dict[str, Any]:
        row = row_of[prediction.clip]
        for store in (run.waveforms, run.feature):
            verify(store, [row])
        samples = rows(run.waveforms)[row]
        values, params = rows(run.feature)[row], run.feature.params
        return {
            **prediction._asdict(),
            "picture": _picture(
                CLIP,
                f"{run.feature.feature} of {prediction.clip}",
                lambda axes: clip_figures.feature(axes, values, params, samples=len(samples)),
            ),
            "sound": embedded(flac(samples, params["audio"]["sample_rate"]), "audio/flac"),
        }

    return {
        "wrong": [shown(prediction) for prediction in wrong[: settings.mistakes]],
        "unsure": [shown(prediction) for prediction in unsure[: settings.mistakes]],
    }


# ----------------------------------------------------------------------------------------------- origin


def _origin(run: Run, index: Index) -> dict[str, Any]:
    features = {f"features.{name}": params for name, params in index.features.items()}
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
        return picture(svg(figure, name), name)
