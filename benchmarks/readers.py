"""Epochs over the training clips' STFT: the project's readers against the notebook's cached dataset.

The notebook's first epoch loads and transforms each clip and keeps it, the next ones shuffle what was kept.
The project's first epoch reads the store. All sides take turns, after each has run once; the first epochs
of new readers are timed by themselves. Then resident memory over a store of 10 GB, and the share of its time
that the notebook's RNN waits for input.
"""

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from common import arguments, folder, machine, seconds, stage, table

import h5py
import numpy as np
import psutil
import tensorflow as tf
from features import RATE, SAMPLES, load

from pipeline.learning import batches
from pipeline.models.rnn import Rnn
from pipeline.learning.batches import Side
from pipeline.store.layout import describe

SHARE = 0.8


def side(path: Path, seed: int = 0) -> Side:
    """Return a share of the clips of a store, as a split's training clips are: here and there."""
    store = describe(path)
    chosen = np.random.default_rng(seed).random(len(store.clips)) < SHARE
    return batches.part(store, np.flatnonzero(chosen).tolist())


def notebook(files: list[str], batch_size: int) -> tf.data.Dataset:
    """Return the notebook's dataset: librosa in tf.numpy_function, tf.signal.stft, cache, shuffle, batch."""

    def stft(path: tf.Tensor) -> tf.Tensor:
        y = tf.numpy_function(lambda p: load(p.decode()), [path], tf.float32)
        return tf.abs(tf.signal.stft(tf.ensure_shape(y, [SAMPLES]), 512, 128))

    paths = tf.data.Dataset.from_tensor_slices(files)
    features = paths.map(stft, num_parallel_calls=tf.data.AUTOTUNE)
    return features.cache().shuffle(6400).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def epoch(dataset: tf.data.Dataset) -> None:
    """Take every batch."""
    for _ in dataset:
        pass


def large(path: Path, gigabytes: float) -> None:
    """Write a store of STFT's shape with nothing but its layout and numbers."""
    clips = int(gigabytes * 1e9 / (134 * 257 * 4))
    block = np.random.default_rng(0).random((100, 134, 257), np.float32)
    with h5py.File(path, "w") as file:
        values = file.create_dataset("values", (clips, 134, 257), "<f4")
        for start in range(0, clips, 100):
            values[start : start + 100] = block[: clips - start]
        file["clip"] = [f"a/{number}" for number in range(clips)]
        file["checksum"] = file["source"] = np.zeros(clips, "V16")
        file.attrs["labels"], file.attrs["params"] = ["a"], "{}"


def resident(train: Side) -> tuple[float, float]:
    """Return the clips/s of a streamed epoch and the peak of resident memory in GiB."""
    process, peak = psutil.Process(), 0
    start = time.perf_counter()
    for number, _ in enumerate(batches.batches(train, 32, seed=0)):
        if number % 50 == 0:
            peak = max(peak, process.memory_info().rss)
    return len(train.rows) / (time.perf_counter() - start), peak / 2**30


def waiting(train: Side, batches: int = 40) -> float:
    """Return the share of its time that the notebook's RNN waits for its next batch."""
    import keras

    inputs = keras.Input(train.row_shape)
    model = keras.Model(inputs, Rnn(units=256, dropout=0.1).logits(inputs, 8))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    waited = worked = 0.0
    iterator = iter(batches.batches(train, 32, seed=0))
    for number in range(batches):
        start = time.perf_counter()
        values, targets = next(iterator)
        between = time.perf_counter()
        model.train_on_batch(values, targets)
        if number >= 5:  # the first ones compile
            waited += between - start
            worked += time.perf_counter() - between
    return waited / (waited + worked)


def main() -> None:
    """Measure, and print medians and ratios."""
    args = arguments(str(__doc__), clips=8000, rounds=9, gigabytes=10)
    print(machine(), f"TensorFlow {tf.__version__}, {RATE} Hz")
    if args.gigabytes:  # first, while this process is small
        with tempfile.TemporaryDirectory() as name:
            large(Path(name) / "large.h5", args.gigabytes)
            rate, peak = resident(side(Path(name) / "large.h5"))
        print(f"{args.gigabytes} GB, streamed: {rate:,.0f} clips/s, at most {peak:.2f} GiB resident")
    with folder(args.archive, args.clips):
        stage("decode")
        stage("featurize stft")
        train = side(Path("data/features/stft.h5"))
        files = [f"data/raw/{clip}" for clip in train.clips]
        print(f"the notebook's RNN waits {waiting(train):.1%} of its time for input")
        for batch_size in (32, 128):
            theirs = notebook(files, batch_size)
            first = seconds(partial(epoch, theirs))
            fresh = partial(batches.batches, train, batch_size, seed=0, cache="memory")
            fastest = statistics.median(seconds(lambda: epoch(fresh())) for _ in range(5))  # noqa: B023
            print(
                f"\nin {batch_size}s: the notebook's first epoch {first:.1f} s, this project's, mapping"
                f" the store included, {fastest:.2f} s: {first / fastest:.0f} times as fast"
            )
            ours = {
                name: batches.batches(train, batch_size, seed=0, cache=cache)
                for name, cache in (("in memory", "memory"), ("streamed", "none"))
            }
            for dataset in ours.values():
                epoch(dataset)
            times: dict[str, list[float]] = {"notebook, cached": [], **{name: [] for name in ours}}
            for _ in range(args.rounds):
                for name, dataset in {"notebook, cached": theirs, **ours}.items():
                    start = time.perf_counter()
                    epoch(dataset)
                    times[name].append(time.perf_counter() - start)
            for name in ours:
                table({"notebook, cached": times["notebook, cached"], name: times[name]}, len(files), name)


if __name__ == "__main__":
    main()
