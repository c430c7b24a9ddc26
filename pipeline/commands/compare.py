"""`python -m pipeline.commands.compare`: every feature with every model, in results/compare.html.

Pairs without an experiment at this commit, with these parameters and this code, are queued and run; what ran
before is found again. The page is none of the pipeline's outputs: it tells how fast this machine is.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.commands.check import mistakes_in
from pipeline.corpus.audio import Audio
from pipeline.errors import PipelineError, run
from pipeline.features import Feature
from pipeline.files import replacing
from pipeline.learning import runtime, timings
from pipeline.models import Model
from pipeline.report import score_figures
from pipeline.report.figures import blank, styled, svg
from pipeline.report.html import markup, render

PAGE = Path("results/compare.html")
MODEL = "models/model.keras"
# Clips that are predicted at once, how many in all, and how often: the speed is the median.
BATCH_SIZE, CLIPS, ROUNDS = 64, 256, 3

# A feature's name and a model's.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Experiment:
    """What one pair's experiment left behind."""

    pair: Pair
    name: str
    metrics: dict[str, Any]
    parameters: int
    megabytes: float  # of the feature's store
    seconds: float | None  # of training; None: it did not run on this machine
    curves: dict[str, list[float]]  # loss and accuracy on val by epoch
    network: Any


def main() -> None:
    """Run what has not run, then write the page."""
    pairs = _pairs()
    found = _experiments(pairs)
    runtime.start(seed=0)
    refused = _refused([pair for pair in pairs if pair not in found])
    missing = [pair for pair in pairs if pair not in found and pair not in refused]
    print(f"{len(pairs)} pairs: {len(found)} ran before, {len(refused)} cannot be, {len(missing)} are to run")
    for pair, reason in refused.items():
        print(f"{pair[0]} → {pair[1]}: {reason}")
    if missing:
        _run(missing)
        found = _experiments(pairs)
    failed = [pair for pair in missing if pair not in found]
    if not found:
        raise PipelineError("no pair has an experiment: dvc queue status, dvc queue logs NAME")
    seconds = timings.seconds()
    experiments = [_read(pair, row, seconds) for pair, row in found.items()]
    speeds = _speeds(experiments)
    with replacing(PAGE) as part:
        part.write_text(_page(experiments, speeds, refused, failed), encoding="utf-8")
    print(f"{PAGE}: {len(found)} pairs")
    if failed:
        named = ", ".join(" → ".join(pair) for pair in failed)
        raise PipelineError(f"{named} did not come to an end: dvc queue status, dvc queue logs NAME")


def _pairs() -> list[Pair]:
    content = params.load()
    mistakes = mistakes_in(content)
    if mistakes:
        raise PipelineError("\n".join(mistakes))
    parser = argparse.ArgumentParser(prog="python -m pipeline.commands.compare", description="side by side")
    for group in ("features", "models"):
        parser.add_argument(f"--{group}", help="names, separated by commas; by default all there are")
    args = parser.parse_args()
    chosen = {}
    for group in ("features", "models"):
        asked = getattr(args, group)
        names = content[group] if asked is None else [name.strip() for name in asked.split(",")]
        chosen[group] = list(dict.fromkeys(names))
        for name in chosen[group]:
            if name not in content[group]:
                raise PipelineError(f"--{group} must be of {', '.join(content[group])}, has {name!r}")
    return [(feature, model) for model in chosen["models"] for feature in chosen["features"]]


# ---------------------------------------------------------------------------------------------- experiments


def _dvc(*args: str) -> str:
    """Return what dvc prints; raise PipelineError with it where dvc fails."""
    result = subprocess.run([sys.executable, "-m", "dvc", *args], capture_output=True, text=True, check=False)
    if result.returncode:
        raise PipelineError(f"dvc {' '.join(args)}:\n{result.stderr.strip()}")
    return result.stdout


def _experiments(pairs: list[Pair]) -> dict[Pair, dict[str, Any]]:
    """Return the latest experiment of each pair that has one, as `dvc exp show --json` has it."""
    workspace, *bases = json.loads(_dvc("exp", "show", "--json"))
    wanted = workspace["data"]["params"]["params.yaml"]["data"]
    found: dict[Pair, dict[str, Any]] = {}
    for row in (row for base in bases for row in base.get("experiments") or []):
        data = row["revs"][0].get("data")
        if not data or MODEL not in data["outs"] or "results/metrics.json" not in data["metrics"]:
            continue
        made = data["params"]["params.yaml"].get("data", {})
        pair = made.get("feature"), made.get("model")
        if pair in pairs and made == {**wanted, "feature": pair[0], "model": pair[1]} and _same_code(data):
            latest = found.get(pair)
            if latest is None or latest["revs"][0]["data"]["timestamp"] < data["timestamp"]:
                found[pair] = row
    return {pair: found[pair] for pair in pairs if pair in found}


def _same_code(data: dict[str, Any]) -> bool:
    """Return whether the code that an experiment ran is what is here now."""
    return all(
        Path(path).exists() and hashlib.md5(Path(path).read_bytes()).hexdigest() == dep["hash"]
        for path, dep in data["deps"].items()
        if path.startswith("pipeline/")
    )


def _refused(pairs: list[Pair]) -> dict[Pair, str]:
    """Return why a model cannot take a feature, for each pair where that is so."""
    import keras

    samples = params.read("audio", Audio).samples
    reasons = {}
    for pair in pairs:
        feature, name = pair
        shape = params.read(f"features.{feature}", Feature.named(feature)).shape(samples)
        try:
            params.read(f"models.{name}", Model.named(name)).logits(keras.Input(shape), 2)
        except ValueError as error:
            reasons[pair] = str(error).splitlines()[0]
        keras.backend.clear_session()
    return reasons


def _run(pairs: list[Pair]) -> None:
    """Queue an experiment for each of `pairs`, and work through the queue."""
    waiting = re.findall(r"\b(?:Queued|Running)\s*$", _dvc("queue", "status"), re.MULTILINE)
    if waiting:
        raise PipelineError(
            f"{len(waiting)} experiments are in the queue: let them end (dvc queue start), or end them with"
            " dvc queue stop --kill and dvc queue remove --queued"
        )
    shared = ["--pull"] if "core.remote=" in _dvc("config", "--list") else []
    for name in dict.fromkeys(model for _, model in pairs):
        features = ",".join(feature for feature, model in pairs if model == name)
        print(
            _dvc("exp", "run", "--queue", *shared, "-S", f"model={name}", "-S", f"feature={features}").strip()
        )
    print("running them; each may take minutes", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--run-all"], check=False)
    except KeyboardInterrupt:  # the queue's worker would go on
        _dvc("queue", "stop", "--kill")
        raise PipelineError(
            "stopped: dvc queue start goes on with what is queued, dvc queue remove --queued forgets it"
        ) from None


def _read(pair: Pair, row: dict[str, Any], seconds: dict[str, float]) -> Experiment:
    from dvc.api import DVCFileSystem

    data = row["revs"][0]["data"]
    files = DVCFileSystem(rev=data["rev"])
    layers = csv.DictReader(io.StringIO(files.read_text("results/layers.csv", encoding="utf-8")))
    return Experiment(
        pair=pair,
        name=row["name"] or data["rev"][:7],
        metrics=data["metrics"]["results/metrics.json"]["data"],
        parameters=sum(int(layer["parameters"]) for layer in layers),
        megabytes=data["outs"][f"data/features/{pair[0]}.h5"]["size"] / 1e6,
        seconds=seconds.get(data["outs"][MODEL]["hash"]),
        curves={metric: _logged(files, metric) for metric in ("loss", "accuracy")},
        network=_network(files.read_bytes(MODEL)),
    )


def _logged(files: Any, metric: str) -> list[float]:
    text = files.read_text(f"results/train/plots/metrics/val/{metric}.tsv", encoding="utf-8")
    return [float(row[metric]) for row in csv.DictReader(io.StringIO(text), delimiter="\t")]


def _network(content: bytes) -> Any:
    import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(content)
        file.flush()
        return keras.models.load_model(file.name)


# --------------------------------------------------------------------------------------------------- speeds


def _speeds(experiments: list[Experiment]) -> list[float]:
    """Return how many clips/s each network predicts here, the networks taking turns."""
    generator = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in experiments]
    for number in range(ROUNDS + 1):
        for each, experiment in zip(times, experiments, strict=True):
            clips = generator.random((CLIPS, *experiment.network.input_shape[1:]), np.float32)
            start = time.perf_counter()
            experiment.network.predict(clips, batch_size=BATCH_SIZE, verbose=0)
            if number:  # the first compiles it
                each.append(time.perf_counter() - start)
    return [CLIPS / statistics.median(each) for each in times]


# ----------------------------------------------------------------------------------------------------- page


def _page(
    experiments: list[Experiment], speeds: list[float], refused: dict[Pair, str], failed: list[Pair]
) -> str:
    order = sorted(range(len(experiments)), key=lambda number: -experiments[number].metrics["accuracy"])
    content = params.load()
    return render(
        "compare.html",
        title=f"{content['dataset']}: {len(experiments)} pairs of feature and model",
        rows=[(experiments[number], speeds[number]) for number in order],
        pictures=list(_pictures(experiments)),
        refused=refused,
        failed=failed,
        revision=_revision(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )


def _pictures(experiments: list[Experiment]) -> Iterator[tuple[str, Any]]:
    for metric, name in (("accuracy", "share of clips right"), ("loss", "cross-entropy (nats)")):
        with styled():
            figure = blank(7.5, 3.6)
            score_figures.overlaid(
                figure.subplots(), {each.pair: each.curves[metric] for each in experiments}, name
            )
            yield f"{metric.capitalize()} on val by epoch", markup(svg(figure, f"{metric} on val by epoch"))


def _revision() -> str | None:
    """Return the commit, or None where the project differs from it."""
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    if status.stdout.strip():
        return None
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


if __name__ == "__main__":
    run(main)
