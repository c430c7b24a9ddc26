"""Time the training of each model: with this project's batches, and with the notebook's cached dataset.

Both train the same Keras model with the same optimiser and batch size, an epoch each in turn. A first epoch
is not counted: both compile in it, and the notebook's dataset fills its cache from the same features.

    python -m benchmarks.training --archive ZIP
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import arguments, folder, machine, ratio, stage
from benchmarks.readers import subset
from pipeline import params
from pipeline.errors import PipelineError
from pipeline.learning.batches import Subset, batches
from pipeline.models import Model
from pipeline.store.reader import rows

MODELS = ("rnn", "cnn", "tcresnet", "bcresnet", "resnet", "dscnn")
FEATURES = ("stft", "logmel", "mfcc")


def notebook(train: Subset, batch_size: int) -> tf.data.Dataset:
    """Return the notebook's dataset, which takes finished features clip by clip: cached and shuffled."""
    values = rows(train.store)

    def clips() -> Iterator[tuple[Any, Any]]:
        for row, target in zip(train.rows, train.targets, strict=True):
            yield values[row], target

    spec = (tf.TensorSpec(train.row_shape, tf.float32), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(clips, output_signature=spec)
    return dataset.cache().shuffle(6400).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def compiled(name: str, train: Subset) -> Any:
    """Return the compiled Keras model `name`. Raises ValueError if it cannot take the feature's shape."""
    inputs = keras.Input(train.row_shape)
    model = params.read_plugin(f"models.{name}", Model)
    net = keras.Model(inputs, model.logits(inputs, len(train.labels)))
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    return net


def compare(name: str, train: Subset, batch_size: int, rounds: int) -> str:
    """Return the cells of the table for the model `name`: clips/s of both sides and their ratio."""
    sides = (
        (compiled(name, train), batches(train, batch_size, seed=0, cache="auto")),
        (compiled(name, train), notebook(train, batch_size)),
    )
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for (net, dataset), seconds in zip(sides, times, strict=True):
            start = time.perf_counter()
            net.fit(dataset, shuffle=False, verbose=0)  # the batches are shuffled
            if number:
                seconds.append(time.perf_counter() - start)
    ours, theirs = (len(train.rows) / np.median(seconds) for seconds in times)
    return f"{ours:,.0f} | {theirs:,.0f} | {ratio(times[1], times[0]):.2f}"


def main() -> None:
    """Time every pair of a model and a feature that fit together."""
    args = arguments(str(__doc__), clips=800, rounds=3, batch=32, models=MODELS, features=FEATURES)
    print(machine(), f"TensorFlow {tf.__version__}, batches of {args.batch}\n")
    print(
        "| feature | model | this project, clips/s | notebook's loop, clips/s | ratio |\n"
        "|---|---|---|---|---|"
    )
    with folder(args.archive, args.clips):
        stage("decode")
        for feature in args.features:
            stage(f"featurize {feature}")
        for feature in args.features:
            train = subset(Path(f"data/features/{feature}.h5"))
            for name in args.models:
                try:
                    cells = compare(name, train, args.batch, args.rounds)
                except (ValueError, PipelineError) as error:
                    cells = f"{str(error).splitlines()[0]} | |"
                print(f"| {feature} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
