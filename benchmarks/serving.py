"""Time `python -m pipeline predict`: one recording from a cold start, and many.

The cold start is beside `import tensorflow`, which it avoids. The many recordings are beside the prediction
of the stage `evaluate`, which reads features that are computed already. The network has random weights.

    python -m benchmarks.serving --archive ZIP
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import (
    ROOT,
    alternate,
    arguments,
    best_feature,
    clips_of,
    compute_best_features,
    folder,
    machine,
    ratio,
)
from benchmarks.prediction import untrained
from pipeline import params
from pipeline.features import Feature
from pipeline.learning import runtime
from pipeline.learning.evaluation import predict
from pipeline.models import Model
from pipeline.serving.description import Description
from pipeline.serving.export import PATHS, Exporter, Format
from pipeline.serving.predictor import MODEL
from pipeline.store.layout import describe
from pipeline.store.reader import rows


def export(name: str, net: Any, *formats: Format) -> None:
    """Write the network `net` of the model `name` to models/export, calibrated on the first clips."""
    waveforms = describe(Path("data/waveforms.h5"))
    feature = params.read_plugin(f"features.{best_feature(name)}", Feature)
    model = params.read_plugin(f"models.{name}", Model)
    audio = waveforms.params["audio"]
    description = Description.model_validate(
        {
            "labels": clips_of(waveforms).labels,
            "audio": audio,
            "feature": {"name": best_feature(name), "params": feature.model_dump()},
            "model": {"name": name, "params": model.model_dump(by_alias=True)},
            "train": {},
            "licences": model.licences(),
        }
    )
    exporter = Exporter(net, feature, description, rows(waveforms)[:100])
    MODEL.parent.mkdir(parents=True, exist_ok=True)
    for each in formats:
        exporter.write(each, MODEL.parent / PATHS[each])


def _run(*command: str) -> None:
    subprocess.run(
        [sys.executable, *command],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def main() -> None:
    """Print the seconds of a cold start and the clips/s of many recordings, each with its ratio."""
    args = arguments(str(__doc__), clips=3276, rounds=7, models=("resnet",))
    print(machine(), f"TensorFlow {tf.__version__}\n")
    runtime.start(0)
    with folder(args.archive, args.clips, sample_rate=16000, duration=1.0):
        compute_best_features(args.models)
        for name in args.models:
            net, clips = untrained(name)
            export(name, net, "litert")
            recording = str(next(Path("data/raw").glob("*/*")))
            cold: dict[str, Callable[[], object]] = {
                "predict": partial(_run, "-m", "pipeline", "predict", recording),
                "import tensorflow": partial(_run, "-c", "import tensorflow"),
            }
            many: dict[str, Callable[[], object]] = {
                "predict": partial(_run, "-m", "pipeline", "predict", "data/raw"),
                "evaluate": partial(predict, net, clips),
            }
            for work in (*cold.values(), *many.values()):
                work()  # reads files and compiles
            times = alternate(cold, args.rounds, before=lambda: None)
            longer = ratio(times["import tensorflow"], times["predict"])
            median = {side: float(np.median(seconds)) for side, seconds in times.items()}
            print(
                f"{name}, one recording: predict {median['predict']:.2f} s,"
                f" import tensorflow {median['import tensorflow']:.2f} s, {longer:.1f} times as long"
            )
            times = alternate(many, args.rounds, before=lambda: None)
            longer = ratio(times["predict"], times["evaluate"])
            speed = {side: args.clips / float(np.median(seconds)) for side, seconds in times.items()}
            print(
                f"{name}, {args.clips:,} recordings: predict {speed['predict']:,.0f} clips/s from audio"
                f" files, evaluate {speed['evaluate']:,.0f} clips/s from features; predict takes"
                f" {longer:.2f} times as long"
            )


if __name__ == "__main__":
    main()
