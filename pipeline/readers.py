"""A feature's store joined with the split → batches, as tf.data or as rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.files import read_csv
from pipeline.params import load
from pipeline.store.layout import Rows, Store, check, describe
from pipeline.store.reader import rows

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Side:
    """The clips of one side of the split, in the order of the store."""

    store: Store
    rows: NDArray[np.int64]  # (clips,): which rows of the store
    targets: NDArray[np.int64]  # (clips,): index into `labels`

    @property
    def labels(self) -> list[str]:
        """The names of the labels."""
        return self.store.labels

    @property
    def clips(self) -> list[str]:
        """The clips' ids."""
        return [self.store.clips[row] for row in self.rows]

    @property
    def row_shape(self) -> tuple[int, int]:
        """(frames, bins) of each clip."""
        _, frames, bins = self.store.shape
        return frames, bins


def side(name: str, *, store: Path, split: Path) -> Side:
    """Return the side called `name` (`train`, `val`, `test`) of a feature's store.

    Raises PipelineError where store and split do not hold the same clips, or the store was made with other
    parameters than params.yaml has.
    """
    description = check(describe(store), load())
    sides = {row["clip"]: row["split"] for row in read_csv(split)}
    if sides.keys() != set(description.clips):
        odd = sorted(sides.keys() ^ set(description.clips))
        raise PipelineError(
            f"{store} and {split} hold different clips, {odd[0]} and {len(odd) - 1} more: run dvc repro"
        )
    chosen = [row for row, clip in enumerate(description.clips) if sides[clip] == name]
    index = {label: number for number, label in enumerate(description.labels)}
    targets = [index[description.clips[row].partition("/")[0]] for row in chosen]
    return Side(description, np.array(chosen, np.int64), np.array(targets, np.int64))


def batches(side: Side, batch_size: int, *, seed: int | None = None) -> "tf.data.Dataset":
    """Return a dataset of (clips, frames, bins) float32 and (clips,) int64 targets.

    Each batch is gathered from the file's own pages when it is wanted; memory holds a few batches,
    however large the store is.

    Args:
        side: the clips.
        batch_size: clips per batch; the last of an epoch may be smaller.
        seed: shuffles all clips anew for each epoch, the same way for the same seed; None keeps the
            order of the store.
    """
    import tensorflow as tf

    values = rows(side.store)
    frames, bins = side.row_shape

    def gather(which: NDArray[np.int64]) -> Rows:
        return np.take(values, which, axis=0).astype(np.float32, copy=False)

    def gathered(which: Any, targets: Any) -> Any:
        batch = tf.numpy_function(gather, [which], tf.float32, stateful=False)
        return tf.ensure_shape(batch, (None, frames, bins)), targets

    dataset = tf.data.Dataset.from_tensor_slices((side.rows, side.targets))
    if seed is not None:
        dataset = dataset.shuffle(len(side.rows), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).map(gathered).prefetch(tf.data.AUTOTUNE)
