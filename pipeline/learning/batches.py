"""Join a feature's store with the split, and read batches from it with tf.data."""

import contextlib
import dataclasses
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import members
from pipeline.corpus.members import Member
from pipeline.errors import PipelineError
from pipeline.needs import free_memory
from pipeline.store.current import open_current
from pipeline.store.layout import Rows, Store
from pipeline.store.reader import rows, verify

if TYPE_CHECKING:
    import tensorflow as tf

Cache = Literal["auto", "memory", "none"]
# The share of the free memory that a store may take.
FREE_SHARE = 0.5
# How much of a store may stay mapped if the store is not kept in memory.
MAPPED_BYTES = 512 << 20
# A flag of madvise, from Linux 5.14 on. Python's module mmap has no name for it.
MADV_POPULATE_READ = 22
# How many batches tf.data prepares at once, before they are needed. The memory's speed limits this work, so
# more cores do not help.
AHEAD = 2
# Memory that TensorFlow did not allocate must begin at a multiple of this many bytes.
ALIGNMENT = 64


@dataclass(frozen=True)
class Subset:
    """The clips of one split, such as `train`, that have a label in the task, in the order of the store."""

    store: Store
    rows: NDArray[np.int64]  # (clips,): indices of rows in the store
    targets: NDArray[np.int64]  # (clips,): index into `labels`
    labels: list[str]  # of the task, sorted
    noise: NDArray[np.int64]  # (pieces,): indices of rows in the store: pieces of noise in the same split

    @property
    def clips(self) -> list[str]:
        """The clips' ids."""
        return [self.store.clips[row] for row in self.rows]

    @property
    def row_shape(self) -> tuple[int, int]:
        """(frames, bins) of each clip."""
        _, frames, bins = self.store.shape
        return frames, bins


def load_subset(name: str, *, store: Path, split: Path) -> Subset:
    """Return the clips of one split.

    Args:
        name: the split: `train`, `val` or `test`.
        store: a feature's store, `<feature>.h5`.
        split: the path of split.csv.

    Raises:
        PipelineError: the store and split.csv have different clips, or the store was computed with other
            parameters than params.yaml has, or a row does not match its checksum.
    """
    opened = open_current(store, store.stem)
    joined = members.read(split, ids=opened.clips)
    subset = select_rows(opened, joined, [row for row, member in enumerate(joined) if member.split == name])
    verify(opened, subset.rows.tolist())
    return subset


def select_rows(store: Store, joined: Sequence[Member], indices: Sequence[int]) -> Subset:
    """Return those clips of the task, and those pieces of noise, whose rows have these `indices`.

    `joined` says what each row of `store` is in the task.
    """
    labels = sorted({member.label for member in joined} - {""})
    label_index = {label: index for index, label in enumerate(labels)}
    chosen = [row for row in indices if joined[row].label]
    targets = [label_index[joined[row].label] for row in chosen]
    noise = [row for row in indices if joined[row].noise]
    return Subset(
        store, np.array(chosen, np.int64), np.array(targets, np.int64), labels, np.array(noise, np.int64)
    )


def limit(subset: Subset, clips_per_label: int | None, seed: int) -> Subset:
    """Return at most `clips_per_label` clips of each label, drawn by `seed`, or all if it is None.

    With the same seed, a smaller number draws some of the clips that a larger one draws.
    """
    if clips_per_label is None:
        return subset
    order = np.random.default_rng(seed).permutation(len(subset.rows))
    drawn = [order[subset.targets[order] == label][:clips_per_label] for label in range(len(subset.labels))]
    chosen = np.sort(np.concatenate(drawn))
    return dataclasses.replace(subset, rows=subset.rows[chosen], targets=subset.targets[chosen])


def batches(
    subset: Subset,
    batch_size: int,
    *,
    seed: int | None = None,
    cache: Cache = "none",
    replicas: range | None = None,
    num_replicas: int = 1,
) -> "tf.data.Dataset":
    """Return a dataset of features (clips, frames, bins) float32 and targets (clips,) int64.

    TensorFlow reads each batch directly from the store's file, which is mapped into memory. It copies the
    store neither in memory nor into the graph, and runs no Python code for single clips.

    Args:
        subset: the clips.
        batch_size: clips per batch. The last batch of an epoch may be smaller. With several replicas, it
            takes clips from the batch before it if it would otherwise have fewer clips than replicas.
        seed: shuffle the clips, in another order in each epoch. The same seed gives the same orders.
            Without a seed, the clips keep the order of the store.
        cache: `memory` reads the whole store now and keeps it mapped. `none` keeps at most about 512 MiB
            mapped on Linux; the system may drop the other pages, and then reads them again from disk. `auto`
            chooses `memory` if `fits(subset.store)`, else `none`. The batches do not depend on it.
        replicas: the indices of the replicas that this process serves. For each batch, the dataset yields
            one part for each of them. Without replicas, it yields whole batches.
        num_replicas: the number of all replicas, of all processes.
    """
    import tensorflow as tf

    mapped = rows(subset.store)
    keep_mapped = cache == "memory" or (cache == "auto" and fits(subset.store))
    if keep_mapped:
        _load_pages(mapped)
    with tf.device("CPU"):
        # If TensorFlow is set to use deterministic operations, tf.data rewrites the graph, even with the
        # options below, and copies the tensors in it. It does not copy a variable, which shares the memory.
        variable = tf.Variable(_tensor(mapped, subset.store.path), trainable=False)

    def gather(indices: Any, targets: Any) -> Any:
        return tf.cast(tf.gather(variable.read_value(), indices), tf.float32), targets

    dataset = tf.data.Dataset.from_tensor_slices((subset.rows, subset.targets))
    if seed is not None:
        dataset = dataset.shuffle(len(subset.rows), seed=seed, reshuffle_each_iteration=True)
    if replicas is None:
        dataset = dataset.batch(batch_size)
    else:
        bounds = _batch_bounds(len(subset.rows), batch_size, num_replicas)
        # A replica's part is every num_replicas-th clip of a batch.
        parts = tf.data.Dataset.from_tensor_slices(
            [(start + replica, stop) for start, stop in bounds for replica in replicas]
        )
        dataset = dataset.batch(len(subset.rows)).flat_map(
            lambda indices, targets: parts.map(
                lambda part: (
                    indices[part[0] : part[1] : num_replicas],
                    targets[part[0] : part[1] : num_replicas],
                )
            )
        )
    if not keep_mapped:
        dataset = dataset.map(_page_release(mapped))
    dataset = dataset.map(gather, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)
    return dataset.with_options(_no_rewrites())


def _batch_bounds(num_clips: int, batch_size: int, num_replicas: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each batch of an epoch."""
    starts = list(range(0, num_clips, batch_size))
    # A convolution fails on an empty batch, so the last batch gets a clip for each replica if there are
    # enough clips.
    starts[-1] = max(0, min(starts[-1], num_clips - num_replicas))
    return list(zip(starts, [*starts[1:], num_clips], strict=True))


def fits(store: Store) -> bool:
    """Return whether the rows of `store` take at most half of the memory that is free now."""
    size = np.prod(store.shape) * store.dtype.itemsize
    return bool(size <= FREE_SHARE * free_memory())


def _tensor(values: Rows, path: Path) -> "tf.Tensor":
    """Return `values` as a tensor that shares their memory. Nothing may write to the tensor.

    Raises PipelineError if the rows in the file at `path` are not aligned, because TensorFlow would then copy
    all of them.
    """
    import tensorflow as tf

    if values.ctypes.data % ALIGNMENT:
        raise PipelineError(
            f"{path}: the rows must begin at a multiple of {ALIGNMENT} bytes: recreate the file with"
            f" dvc repro --force --single-item featurize@{path.stem}"
        )
    return tf.experimental.dlpack.from_dlpack(np.asarray(_Writable(values)).__dlpack__())


class _Writable:
    """A view of a read-only array that claims to be writable, because TensorFlow accepts no other."""

    def __init__(self, values: Rows) -> None:
        interface = values.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.values = values  # keeps the memory alive


def _load_pages(mapped: Rows) -> None:
    """Read all pages of `mapped` into memory now, instead of each page at its first use."""
    with contextlib.suppress(OSError):  # if the system cannot do this, pages load at their first use
        cast("mmap.mmap", mapped.base).madvise(MADV_POPULATE_READ)


def _page_release(mapped: Rows) -> Any:
    """Return a function for `Dataset.map` that unmaps the pages of `mapped` if too many are mapped.

    It returns its arguments unchanged.
    """
    import tensorflow as tf

    limit = _mapped_bytes() + MAPPED_BYTES

    def unmap_above_limit(num_clips: Any) -> Any:
        # The pages stay in the system's cache, and are mapped again when they are next used.
        if _mapped_bytes() > limit:
            cast("mmap.mmap", mapped.base).madvise(mmap.MADV_DONTNEED)
        return num_clips

    def release(indices: Any, targets: Any) -> Any:
        with tf.control_dependencies([tf.numpy_function(unmap_above_limit, [tf.size(indices)], tf.int32)]):
            return tf.identity(indices), targets

    return release


def _mapped_bytes() -> int:
    """Return how many bytes of mapped files, including libraries, this process has in memory.

    Return 0 on systems other than Linux, which do not have /proc/self/statm.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[2])
    except FileNotFoundError:
        return 0
    return pages * mmap.PAGESIZE


def _no_rewrites() -> "tf.data.Options":
    """Return options that keep tf.data from optimising a dataset, which takes longer than it saves."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
