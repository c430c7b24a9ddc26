"""Time the prediction of each model, from a file of features to probabilities, one model after the other.

The clips are 1 s at 16 kHz. Each model takes the feature on which it is most accurate: `cnn` takes `mfcc`,
`speech` takes `speech`, and the others take `logmel`. A first round is not counted.

    python -m benchmarks.prediction --archive ZIP
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import (
    alternate,
    arguments,
    best_feature,
    clips_of,
    compute_best_features,
    folder,
    machine,
    ratio,
)
from pipeline import params
from pipeline.learning import network, runtime
from pipeline.learning.batches import Subset
from pipeline.learning.evaluation import predict
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.store.layout import describe

MODELS = ("resnet", "rnn", "cnn", "tcresnet", "bcresnet", "dscnn", "speech")


def untrained(name: str) -> tuple[Any, Subset]:
    """Return the network `name`, with random or pretrained weights, and all clips as it takes them."""
    clips = clips_of(describe(Path(f"data/features/{best_feature(name)}.h5")))
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    model = params.read_plugin(f"models.{name}", Model)
    return network.build(model, clips, settings, network.measure(clips, settings)), clips


def main() -> None:
    """Print the clips/s of each model, and how many times as fast as the first model it predicts."""
    args = arguments(str(__doc__), clips=1024, rounds=7, models=MODELS)
    print(machine(), f"TensorFlow {tf.__version__}\n")
    runtime.start(0, deterministic=False)
    with folder(args.archive, args.clips, sample_rate=16000, duration=1.0):
        compute_best_features(args.models)
        sides = {name: untrained(name) for name in args.models}
        predictions = {name: partial(predict, net, clips) for name, (net, clips) in sides.items()}
        for prediction in predictions.values():
            prediction()  # compiles
        times = alternate(predictions, args.rounds, before=lambda: None)
    first = args.models[0]
    print(f"| model | clips/s | range | times as fast as {first} |\n|---|---|---|---|")
    for name, seconds in times.items():
        median, low, high = (args.clips / taken for taken in (np.median(seconds), max(seconds), min(seconds)))
        print(
            f"| {name} | {median:,.0f} | {low:,.0f} to {high:,.0f} | {ratio(times[first], seconds):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
