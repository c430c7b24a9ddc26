"""A feature's store joined with the split → batches, as tf.data or as rows."""

import contextlib
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.files import read_csv
from pipeline.store.layout import Rows, Store, checked
from pipeline.store.reader import rows

if TYPE_CHECKING:
    import tensorflow as tf

Cache = Literal["auto", "memory", "none"]
FREE_SHARE = 0.5
# Of a store that is not kept in memory, what stays mapped.
MAPPED_BYTES = 512 << 20
# Of Linux 5.14 and later; Python does not name it.
MADV_POPULATE_READ = 22
# Batches in the making and made: memory is the limit, not cores.
AHEAD = 2
# What TensorFlow demands of memory that it did not allocate.
ALIGNMENT = 64


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
    """Return the side called `name` (`train`, `val`, `test`) of a feature's store, `<feature>.h5`.

    Raises PipelineError where store and split do not hold the same clips, or the store holds another feature
    or was made with other parameters than params.yaml has.
    """
    description = checked(store, store.stem)
    sides = {row["clip"]: row["split"] for row in read_csv(split)}
    if sides.keys() != set(description.clips):
        odd = sorted(sides.keys() ^ set(description.clips))
        raise PipelineError(
            f"{store} and {split} hold different clips, {odd[0]} and {len(odd) - 1} more: run dvc repro"
        )
    return part(description, [row for row, clip in enumerate(description.clips) if sides[clip] == name])


def part(store: Store, chosen: Sequence[int]) -> Side:
    """Return the clips of `store` that are in its rows `chosen`."""
    index = {label: number for number, label in enumerate(store.labels)}
    targets = [index[store.clips[row].partition("/")[0]] for row in chosen]
    return Side(store, np.array(chosen, np.int64), np.array(targets, np.int64))


def batches(
    side: Side,
    batch_size: int,
    *,
    seed: int | None = None,
    cache: Cache = "none",
    replicas: range | None = None,
    of: int = 1,
) -> "tf.data.Dataset":
    """Return a dataset of (clips, frames, bins) float32 and (clips,) int64 targets.

    TensorFlow gathers each batch from the file's own pages, which are mapped: there is no copy of the store,
    in memory or in the graph, and no Python for a clip.

    Args:
        side: the clips.
        batch_size: clips per batch; the last of an epoch may be smaller. With several replicas it has a clip
            for each of them at least, where need be of the batch before.
        seed: shuffles all clips anew for each epoch, the same way for the same seed; None keeps the
            order of the store.
        cache: `memory` reads the whole store at once and keeps it mapped; of one with `none`, no more than
            about 512 MiB are, and the system reads again what it has dropped; `auto` does as `fits` says. The
            batches are the same.
        replicas: whose parts of each batch to give, one behind the other; None gives whole batches.
        of: the number of all replicas.
    """
    import tensorflow as tf

    mapped = rows(side.store)
    stays = cache == "memory" or (cache == "auto" and fits(side.store))
    if stays:
        _map_all(mapped)
    with tf.device("CPU"):
        # A variable shares the tensor's memory. The tensor itself would be copied into the graph where
        # tf.data rewrites that, as it does for deterministic operations.
        variable = tf.Variable(_tensor(mapped, side.store.path), trainable=False)

    def gather(chosen: Any, targets: Any) -> Any:
        return tf.cast(tf.gather(variable.read_value(), chosen), tf.float32), targets

    dataset = tf.data.Dataset.from_tensor_slices((side.rows, side.targets))
    if seed is not None:
        dataset = dataset.shuffle(len(side.rows), seed=seed, reshuffle_each_iteration=True)
    if replicas is None:
        dataset = dataset.batch(batch_size)
    else:
        cuts = _cuts(len(side.rows), batch_size, of)
        parts = tf.data.Dataset.from_tensor_slices(
            [(first + replica, end) for first, end in cuts for replica in replicas]
        )
        dataset = dataset.batch(len(side.rows)).flat_map(
            lambda chosen, targets: parts.map(
                lambda part: (chosen[part[0] : part[1] : of], targets[part[0] : part[1] : of])
            )
        )
    if not stays:
        dataset = dataset.map(_letting_go(mapped))
    dataset = dataset.map(gather, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)
    return dataset.with_options(_as_written())


def _cuts(clips: int, batch_size: int, replicas: int) -> list[tuple[int, int]]:
    """Return where each batch begins and ends; none has fewer clips than `replicas`, where that can be."""
    firsts = list(range(0, clips, batch_size))
    firsts[-1] = max(0, min(firsts[-1], clips - replicas))  # a convolution fails on none
    return list(zip(firsts, [*firsts[1:], clips], strict=True))


def fits(store: Store) -> bool:
    """Return whether the rows of `store` take up no more than half of the memory that is free now."""
    import psutil

    taken = np.prod(store.shape) * store.dtype.itemsize
    return bool(taken <= FREE_SHARE * psutil.virtual_memory().available)


def _tensor(values: Rows, path: Path) -> "tf.Tensor":
    """Return `values` as a tensor in the same memory, which nobody may write to."""
    import tensorflow as tf

    if values.ctypes.data % ALIGNMENT:  # TensorFlow would copy them all
        raise PipelineError(f"{path}: rows must begin at a multiple of {ALIGNMENT} bytes: run dvc repro -f")
    return tf.experimental.dlpack.from_dlpack(np.asarray(_Writable(values)).__dlpack__())


class _Writable:
    """An array that says it can be written, as TensorFlow takes no others, and keeps its memory alive."""

    def __init__(self, values: Rows) -> None:
        described = values.__array_interface__
        self.__array_interface__ = {**described, "data": (described["data"][0], False)}
        self.values = values


def _map_all(mapped: Rows) -> None:
    """Read all rows, and map their pages at once rather than each where it is first touched."""
    with contextlib.suppress(OSError):  # systems that cannot map them one by one
        cast("mmap.mmap", mapped.base).madvise(MADV_POPULATE_READ)


def _letting_go(mapped: Rows) -> Any:
    """Return a function that passes batches on, and unmaps the pages of `mapped` where many are mapped."""
    import tensorflow as tf

    limit = _mapped_bytes() + MAPPED_BYTES

    def look(clips: Any) -> Any:
        # They stay in the system's cache, and come back when they are touched.
        if _mapped_bytes() > limit:
            cast("mmap.mmap", mapped.base).madvise(mmap.MADV_DONTNEED)
        return clips

    def let_go(chosen: Any, targets: Any) -> Any:
        with tf.control_dependencies([tf.numpy_function(look, [tf.size(chosen)], tf.int32)]):
            return tf.identity(chosen), targets

    return let_go


def _mapped_bytes() -> int:
    """Return how much of files this process has mapped, libraries too; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[2])
    except FileNotFoundError:
        return 0
    return pages * mmap.PAGESIZE


def _as_written() -> "tf.data.Options":
    """Return the options that leave a dataset as it is: rewriting it takes longer than it gains."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
