"""Time epochs over the training clips' STFT: this project's batches against the notebook's cached dataset.

In its first epoch the notebook loads and transforms each clip and keeps it, and in later epochs it shuffles
these. This project reads the store from the first epoch on. First epochs are timed by themselves, and later
ones in turn. Before that, the benchmark measures memory over a store of 10 GB, and how long a model waits
for input.

    python -m benchmarks.readers --archive ZIP
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import tensorflow as tf

from benchmarks.common import arguments, clips_of, folder, machine, seconds, stage, table
from benchmarks.features import RATE, STFT_SHAPE, notebook_stft
from pipeline import params
from pipeline.learning.batches import Cache, Subset, batches
from pipeline.models import Model
from pipeline.store.layout import Rows, describe
from pipeline.store.writer import Contents, Verdict, Work, write

SHARE = 0.8
CACHES: dict[str, Cache] = {"cache: memory": "memory", "cache: none": "none"}
NOTEBOOK = "notebook, cached"
# The first steps of a training compile.
WARM_UP = 5


def subset(path: Path, seed: int = 0) -> Subset:
    """Return four fifths of a store's clips, drawn at random, as a split's training clips are."""
    store = describe(path)
    chosen = np.random.default_rng(seed).random(len(store.clips)) < SHARE
    return clips_of(store, np.flatnonzero(chosen).tolist())


def notebook(files: list[str], batch_size: int) -> tf.data.Dataset:
    """Return the notebook's dataset of STFT: cached, shuffled and batched."""
    paths = tf.data.Dataset.from_tensor_slices(files)
    features = paths.map(notebook_stft, num_parallel_calls=tf.data.AUTOTUNE)
    return features.cache().shuffle(6400).batch(batch_size).prefetch(tf.data.AUTOTUNE)


def epoch(dataset: tf.data.Dataset) -> None:
    """Take every batch."""
    for _ in dataset:
        pass


def write_random_store(path: Path, gigabytes: float) -> None:
    """Write a store of random values in STFT's shape."""
    clips = [f"a/{number:09}" for number in range(int(gigabytes * 1e9 / (np.prod(STFT_SHAPE) * 4)))]
    contents = Contents(clips, STFT_SHAPE, "float32", params={"feature": {"name": "random"}})
    with contextlib.redirect_stdout(io.StringIO()):
        write(path, contents, Work("write", range(len(clips)), _numbers, _random))


def _numbers(rows: Sequence[int]) -> Rows:
    return np.array(rows, np.float32)


def _random(numbers: Rows) -> tuple[Rows, list[Verdict[None]]]:
    generator = np.random.default_rng(int(numbers[0]))
    return generator.random((len(numbers), *STFT_SHAPE), np.float32), [Verdict()] * len(numbers)


def stream(train: Subset) -> tuple[float, float]:
    """Return the clips/s of one epoch with `cache: none`, and the peak of resident memory in GiB."""
    process, peak = psutil.Process(), 0
    start = time.perf_counter()
    for number, _ in enumerate(batches(train, 32, seed=0)):
        if number % 50 == 0:
            peak = max(peak, process.memory_info().rss)
    return len(train.rows) / (time.perf_counter() - start), peak / 2**30


def waiting(train: Subset, steps: int) -> float:
    """Return the share of its time that `models.rnn` waits for batches, in `steps` steps after the first."""
    import keras

    inputs = keras.Input(train.row_shape)
    model = params.read_plugin("models.rnn", Model)
    net = keras.Model(inputs, model.logits(inputs, len(train.labels)))
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    waited = worked = 0.0
    iterator = iter(batches(train, 32, seed=0).repeat())
    for number in range(WARM_UP + steps):
        start = time.perf_counter()
        values, targets = next(iterator)
        ready = time.perf_counter()
        net.train_on_batch(values, targets)
        if number >= WARM_UP:
            waited += ready - start
            worked += time.perf_counter() - ready
    return waited / (waited + worked)


def compare(train: Subset, files: list[str], batch_size: int, rounds: int) -> None:
    """Print the times of first epochs, then those of later epochs."""
    theirs = notebook(files, batch_size)
    first = seconds(partial(epoch, theirs))
    reader = partial(batches, train, batch_size, seed=0)
    ours = statistics.median(seconds(lambda: epoch(reader(cache="memory"))) for _ in range(5))
    print(
        f"\nin batches of {batch_size}, the first epoch takes the notebook {first:.1f} s and this project"
        f" {ours:.2f} s, with mapping the store: {first / ours:.0f} times as fast"
    )
    sides = {NOTEBOOK: theirs, **{name: reader(cache=cache) for name, cache in CACHES.items()}}
    for name in CACHES:
        epoch(sides[name])  # the notebook's dataset has had its first epoch
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, dataset in sides.items():
            start = time.perf_counter()
            epoch(dataset)
            times[name].append(time.perf_counter() - start)
    for name in CACHES:
        table({NOTEBOOK: times[NOTEBOOK], name: times[name]}, len(files), name)


def main() -> None:
    """Measure memory, waiting and epochs."""
    args = arguments(str(__doc__), clips=8000, rounds=9, gigabytes=10.0, steps=35)
    print(machine(), f"TensorFlow {tf.__version__}, {RATE} Hz")
    if args.gigabytes:  # measured first, while this process is small
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "random.h5"
            write_random_store(path, args.gigabytes)
            rate, peak = stream(subset(path))
        print(
            f"a store of {args.gigabytes:g} GB, with cache: none: {rate:,.0f} clips/s,"
            f" at most {peak:.2f} GiB resident"
        )
    with folder(args.archive, args.clips):
        stage("decode")
        stage("featurize stft")
        train = subset(Path("data/features/stft.h5"))
        files = [f"data/raw/{clip}" for clip in train.clips]
        print(f"rnn waits for input during {waiting(train, args.steps):.1%} of its time")
        for batch_size in (32, 128):
            compare(train, files, batch_size, args.rounds)


if __name__ == "__main__":
    main()
