"""`python -m pipeline compare`: train every model on every feature, and compare them on results/compare.html.

Each pair of a feature and a model is an experiment. A pair that has an experiment at this commit, with these
parameters and this code, is not run again. The page is not an output of the pipeline, because it says how
fast this machine is.
"""

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline import kerasfile, params
from pipeline.commands import parser
from pipeline.commands.check import problems_in
from pipeline.corpus.audio import Audio
from pipeline.errors import PipelineError
from pipeline.features import Feature
from pipeline.files import atomic_write
from pipeline.learning import runtime, timings
from pipeline.models import Model
from pipeline.records import TableFile, checked
from pipeline.report import results, score_figures
from pipeline.report.figures import blank, styled, svg
from pipeline.report.html import picture, render

PAGE = Path("results/compare.html")
MODEL = "models/model.keras"
METRICS = {"results/metrics.json", "results/export.json"}
# Prediction speed is the median over ROUNDS of predicting CLIPS clips in batches of BATCH_SIZE.
BATCH_SIZE, CLIPS, ROUNDS = 64, 256, 3

# A feature's name and a model's.
Pair = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """The results of one pair's experiment."""

    pair: Pair
    name: str
    metrics: results.Metrics
    exported: dict[str, results.Format | str]  # the scores of each format
    speeds: dict[str, dict[str, float]]  # of each format, or none if it was exported on another machine
    parameters: int
    megabytes: float  # of the feature's store
    seconds: float | None  # of training, or None if it ran on another machine
    curves: dict[str, list[float]]  # loss and accuracy on val by epoch
    network: Any


def main(arguments: Sequence[str]) -> None:
    """Run the experiments that are missing, then write the page."""
    pairs = _pairs(arguments)
    rows = _experiments(pairs)
    runtime.start(seed=0, deterministic=False)  # speeds are those of all of the processor's instructions
    misfits = _misfits([pair for pair in pairs if pair not in rows])
    missing = [pair for pair in pairs if pair not in rows and pair not in misfits]
    print(f"{len(pairs)} pairs: {len(rows)} ran before, {len(misfits)} do not fit, {len(missing)} will run")
    for pair, reason in misfits.items():
        print(f"{pair[0]} → {pair[1]}: {reason}")
    if missing:
        _run(missing)
        rows = _experiments(pairs)
    failed = [pair for pair in missing if pair not in rows]
    if not rows:
        raise PipelineError("no pair has an experiment: see dvc queue status, and dvc queue logs NAME")
    seconds, exports = timings.seconds(), timings.speeds()
    experiments = [_read(pair, row, seconds, exports) for pair, row in rows.items()]
    speeds = _speeds(experiments)
    with atomic_write(PAGE) as part:
        part.write_text(_page(experiments, speeds, misfits, failed), encoding="utf-8")
    print(f"{PAGE}: {len(rows)} pairs")
    if failed:
        names = ", ".join(" → ".join(pair) for pair in failed)
        raise PipelineError(f"{names} failed: see dvc queue status, and dvc queue logs NAME")


def _pairs(arguments: Sequence[str]) -> list[Pair]:
    options = parser("compare")
    for group in ("features", "models"):
        options.add_argument(f"--{group}", help="names, separated by commas; the default is all")
    args = options.parse_args(arguments)
    content = params.load()
    problems = problems_in(content)
    if problems:
        raise PipelineError("\n".join(problems))
    chosen = {}
    for group in ("features", "models"):
        asked = getattr(args, group)
        names = content[group] if asked is None else [name.strip() for name in asked.split(",")]
        chosen[group] = list(dict.fromkeys(names))
        for name in chosen[group]:
            if name not in content[group]:
                known = ", ".join(content[group])
                raise PipelineError(f"--{group} has {name!r}: choose from {known}")
    return [(feature, model) for model in chosen["models"] for feature in chosen["features"]]


# ---------------------------------------------------------------------------------------------- experiments


def _dvc(*args: str) -> str:
    """Run dvc and return what it prints. Raises PipelineError with its message if it fails."""
    result = subprocess.run([sys.executable, "-m", "dvc", *args], capture_output=True, text=True, check=False)
    if result.returncode:
        raise PipelineError(f"dvc {' '.join(args)}:\n{result.stderr.strip()}")
    return result.stdout


def _experiments(pairs: list[Pair]) -> dict[Pair, dict[str, Any]]:
    """Return the latest experiment of each pair that has one, as `dvc exp show --json` returns it."""
    workspace, *bases = json.loads(_dvc("exp", "show", "--json"))
    wanted = workspace["data"]["params"]["params.yaml"]["data"]
    latest: dict[Pair, dict[str, Any]] = {}
    for row in (row for base in bases for row in base.get("experiments") or []):
        data = row["revs"][0].get("data")
        if not data or MODEL not in data["outs"] or not data["metrics"].keys() >= METRICS:
            continue
        used = data["params"]["params.yaml"].get("data", {})
        pair = used.get("feature"), used.get("model")
        if pair in pairs and used == {**wanted, "feature": pair[0], "model": pair[1]} and _same_code(data):
            other = latest.get(pair)
            if other is None or other["revs"][0]["data"]["timestamp"] < data["timestamp"]:
                latest[pair] = row
    return {pair: latest[pair] for pair in pairs if pair in latest}


def _same_code(data: dict[str, Any]) -> bool:
    """Return whether an experiment ran the code that is here now."""
    # A folder of code is left out. Its files are also dependencies of other stages.
    return all(
        Path(path).is_file() and hashlib.md5(Path(path).read_bytes()).hexdigest() == dep["hash"]
        for path, dep in data["deps"].items()
        if path.startswith("pipeline/") and not dep["hash"].endswith(".dir")
    )


def _misfits(pairs: list[Pair]) -> dict[Pair, str]:
    """Return the reason for each pair whose model cannot take the feature, or cannot be built."""
    import keras

    audio, sections = params.read("audio", Audio), params.load()["features"]
    reasons = {}
    for pair in pairs:
        feature, name = pair
        shape = params.read_plugin(f"features.{feature}", Feature).shape(audio.samples)
        model = params.read_plugin(f"models.{name}", Model)
        problems = model.problems(sections[feature], audio.sample_rate)
        if problems:
            reasons[pair] = problems[0]
            continue
        try:
            model.logits(keras.Input(shape), 2)
        except (ValueError, PipelineError) as error:
            reasons[pair] = str(error).splitlines()[0]
        keras.backend.clear_session()
    return reasons


def _run(pairs: list[Pair]) -> None:
    """Queue an experiment for each of `pairs`, and work through the queue."""
    waiting = re.findall(r"\b(?:Queued|Running)\s*$", _dvc("queue", "status"), re.MULTILINE)
    if waiting:
        raise PipelineError(
            f"{len(waiting)} experiments are in the queue: finish them with dvc queue start, or remove them"
            " with dvc queue stop --kill and dvc queue remove --queued"
        )
    shared = ["--pull"] if "core.remote=" in _dvc("config", "--list") else []
    for name in dict.fromkeys(model for _, model in pairs):
        features = ",".join(feature for feature, model in pairs if model == name)
        print(
            _dvc("exp", "run", "--queue", *shared, "-S", f"model={name}", "-S", f"feature={features}").strip()
        )
    print("running the experiments; each may take minutes", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--run-all"], check=False)
    except KeyboardInterrupt:  # otherwise the queue's worker continues
        _dvc("queue", "stop", "--kill")
        raise PipelineError(
            "stopped: continue with dvc queue start, or remove the queued experiments with dvc queue remove"
            " --queued"
        ) from None


def _read(pair: Pair, row: dict[str, Any], seconds: dict[str, float], exports: dict[str, Any]) -> Experiment:
    from dvc.api import DVCFileSystem

    data = row["revs"][0]["data"]
    files = DVCFileSystem(rev=data["rev"])
    name = row["name"] or data["rev"][:7]
    remedy = f"remove the experiment with dvc exp remove {name}, and run this command again"

    def table(kind: TableFile[Any], path: str) -> list[Any]:
        return kind.parse(files.read_bytes(path), f"{name}: {path}", remedy=remedy)

    def scores(kind: Any, path: str) -> Any:
        return checked(data["metrics"][path].get("data"), kind, f"{name}: {path}", remedy=remedy)

    return Experiment(
        pair=pair,
        name=name,
        metrics=scores(results.Metrics, "results/metrics.json"),
        exported=scores(results.Exported, "results/export.json").root,
        speeds=exports.get(data["outs"][MODEL]["hash"], {}),
        parameters=sum(layer.parameters for layer in table(results.LAYERS, "results/layers.csv")),
        megabytes=data["outs"][f"data/features/{pair[0]}.h5"]["size"] / 1e6,
        seconds=seconds.get(data["outs"][MODEL]["hash"]),
        curves={
            metric: [getattr(row, metric) for row in table(kind, f"results/{results.curve('val', metric)}")]
            for metric, kind in results.CURVES.items()
        },
        network=_network(files.read_bytes(MODEL), remedy),
    )


def _network(content: bytes, remedy: str) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(content)
        file.flush()
        return kerasfile.load(Path(file.name), remedy=remedy)


# --------------------------------------------------------------------------------------------------- speeds


def _speeds(experiments: list[Experiment]) -> list[float]:
    """Return how many clips/s each network predicts on this machine. The networks take turns."""
    generator = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in experiments]
    for number in range(ROUNDS + 1):
        for durations, experiment in zip(times, experiments, strict=True):
            clips = generator.random((CLIPS, *experiment.network.input_shape[1:]), np.float32)
            start = time.perf_counter()
            experiment.network.predict(clips, batch_size=BATCH_SIZE, verbose=0)
            if number:  # the first round compiles the network
                durations.append(time.perf_counter() - start)
    return [CLIPS / statistics.median(durations) for durations in times]


# ----------------------------------------------------------------------------------------------------- page


def _page(
    experiments: list[Experiment], speeds: list[float], misfits: dict[Pair, str], failed: list[Pair]
) -> str:
    order = sorted(range(len(experiments)), key=lambda number: -experiments[number].metrics.accuracy)
    content = params.load()
    return render(
        "compare.html",
        title=f"{content['dataset']}: {len(experiments)} pairs of feature and model",
        rows=[(experiments[number], speeds[number]) for number in order],
        pictures=list(_pictures(experiments)),
        misfits=misfits,
        failed=failed,
        revision=_revision(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


def _pictures(experiments: list[Experiment]) -> Iterator[tuple[str, Any]]:
    for metric, name in (("accuracy", "accuracy"), ("loss", "cross-entropy (nats)")):
        with styled():
            figure = blank(7.5, 3.6)
            score_figures.overlaid(
                figure.subplots(), {one.pair: one.curves[metric] for one in experiments}, name
            )
            alternative = f"{metric} on val by epoch"
            yield alternative.capitalize(), picture(svg(figure, alternative), alternative)


def _revision() -> str | None:
    """Return the current commit, or None if the project has changes that are not committed."""
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    if status.stdout.strip():
        return None
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()
