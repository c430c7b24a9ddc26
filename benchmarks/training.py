"""Training clips/s of each model: with the project's readers, and with the notebook's cached dataset.

Both run the same Keras model, optimiser and batch size, an epoch at a time in turn, after one that is not
counted: the notebook's fills its cache from the same features, and both compile.
"""

from pathlib import Path

from common import arguments, folder, machine, stage

import numpy as np
import tensorflow as tf
from readers import side

from pipeline import params
from pipeline.learning import batches
from pipeline.errors import PipelineError
from pipeline.models import Model
from pipeline.learning.batches import Side
from pipeline.store.reader import rows

MODELS = ("rnn", "cnn", "tcresnet", "bcresnet", "resnet", "dscnn", "transfer")
FEATURES = ("stft", "logmel", "mfcc")


def notebook(train: Side, batch_size: int) -> tf.data.Dataset:
    """Return the notebook's dataset, with the features computed already: a clip at a time, cached."""
    values = rows(train.store)

    def clips() -> object:
        for row, target in zip(train.rows, train.targets, strict=True):
            yield values[row], target

    spec = (tf.TensorSpec(train.row_shape, tf.float32), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(clips, output_signature=spec)
    return dataset.cache().shuffle(6400).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def network(name: str, train: Side) -> object:
    """Return the compiled model."""
    import keras

    inputs = keras.Input(train.row_shape)
    model = params.read(f"models.{name}", Model.named(name))
    compiled = keras.Model(inputs, model.logits(inputs, 8))
    compiled.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    return compiled


def main() -> None:
    """Measure every pair of model and feature that goes together."""
    import time

    args = arguments(str(__doc__), clips=800, rounds=3, batch=32)
    print(machine(), f"TensorFlow {tf.__version__}, batches of {args.batch}\n")
    print(
        "| feature | model | this project, clips/s | notebook's loop, clips/s | ratio |\n"
        "|---|---|---|---|---|"
    )
    with folder(args.archive, args.clips):
        for stages in ("decode", *(f"featurize {name}" for name in FEATURES)):
            stage(stages)
        for feature in FEATURES:
            train = side(Path(f"data/features/{feature}.h5"))
            for name in MODELS:
                try:
                    sides = {
                        "ours": (
                            network(name, train),
                            batches.batches(train, args.batch, seed=0, cache="auto"),
                        ),
                        "notebook": (network(name, train), notebook(train, args.batch)),
                    }
                except (ValueError, PipelineError) as error:
                    print(f"| {feature} | {name} | {str(error).splitlines()[0]} | | |")
                    continue
                times: dict[str, list[float]] = {key: [] for key in sides}
                for number in range(args.rounds + 1):
                    for key, (model, dataset) in sides.items():
                        start = time.perf_counter()
                        model.fit(dataset, verbose=0)
                        if number:
                            times[key].append(time.perf_counter() - start)
                ours, theirs = (len(train.rows) / np.array(times[key]) for key in sides)
                rates = f"{np.median(ours):,.0f} | {np.median(theirs):,.0f} | {np.median(ours / theirs):.2f}"
                print(f"| {feature} | {name} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
