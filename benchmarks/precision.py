"""Time the training of each model in each precision: epochs in turn, after one that is not counted.

python -m benchmarks.precision --archive ZIP
"""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import arguments, folder, machine, ratio, stage
from benchmarks.readers import subset
from pipeline import params
from pipeline.learning import fit, network, runtime
from pipeline.learning.batches import Subset
from pipeline.learning.preparation import prepare
from pipeline.learning.settings import Train
from pipeline.models import Model

MODELS = ("rnn", "cnn", "tcresnet", "bcresnet", "resnet", "dscnn")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def epochs(name: str, train: Subset, rounds: int, batch_size: int) -> dict[str, list[float]]:
    """Return the seconds of each epoch in each precision."""
    model = params.read_plugin(f"models.{name}", Model)
    settings = params.read("train", Train, overrides=f"models.{name}.train")
    settings = settings.model_copy(update={"batch_size": batch_size})
    moments = network.measure(train, settings)
    networks: dict[str, Any] = {}
    for precision in PRECISIONS:
        precise = settings.model_copy(update={"precision": precision})
        networks[precision] = network.build(model, train, precise, moments)
        networks[precision].compile(
            keras.optimizers.AdamW(), keras.losses.CategoricalCrossentropy(from_logits=True)
        )
    batches = fit.training_batches(train, settings, prepare(train, settings, moments))
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for number in range(rounds + 1):
        for precision, net in networks.items():
            start = time.perf_counter()
            net.fit(batches, shuffle=False, verbose=0)  # the batches are shuffled
            if number:
                times[precision].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Time every model on log-mel, and print clips/s and how many times as fast as float32 that is."""
    args = arguments(str(__doc__), clips=1024, rounds=3, batch=64, models=MODELS)
    print(machine(), f"TensorFlow {tf.__version__}, batches of {args.batch}\n")
    print(f"| model | {' | '.join(PRECISIONS)} |\n|---|---|---|---|")
    with folder(args.archive, args.clips):
        stage("decode")
        stage("featurize logmel")
        train = subset(Path("data/features/logmel.h5"))
        runtime.start(0, deterministic=False)
        for name in args.models:
            times = epochs(name, train, args.rounds, args.batch)
            cells = [
                f"{len(train.rows) / np.median(seconds):,.0f}, {ratio(times['float32'], seconds):.2f} x"
                for seconds in times.values()
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
