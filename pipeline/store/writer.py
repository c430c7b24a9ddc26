"""Write a store: copy the rows that a previous store already has, and compute the others in parallel."""

import errno
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import parallel
from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from pipeline.progress import Progress
from pipeline.store.layout import Digests, Rows, Store, digests

# Clips in one call of `load` or `compute`. Few, so that their arrays fit in a core's cache: soxr and the
# features are fastest at 4 to 8.
CLIPS_AT_A_TIME = 8
# Clips that a worker gets at once.
CLIPS_PER_TASK = 64
# Bytes; file systems count them in signed numbers of 64 bits.
LARGEST_FILE = 2**63

Input = TypeVar("Input")
Items = TypeVar("Items", bound=Sequence[Any] | Rows)
Note = TypeVar("Note")


@dataclass(frozen=True)
class Contents:
    """The contents of a store besides its rows."""

    clips: list[str]  # ids
    row_shape: tuple[int, ...]
    dtype: str  # float32 or float16
    params: dict[str, Any]  # the parameters that determine the rows


@dataclass(frozen=True)
class Verdict(Generic[Note]):
    """What happened to one clip.

    At most one attribute is set. If none is, the clip's row was computed and there is nothing to report.
    """

    note: Note | None = None  # what `compute` returns besides the row, such as the length of the recording
    rejected: str | None = None  # why the clip gets no row
    reused: int | None = None  # the index of the row that was copied from the previous store


@dataclass(frozen=True)
class Work(Generic[Input, Items, Note]):
    """How to compute rows.

    `write` calls `load` and `compute` with a few clips at a time. They must be picklable, because worker
    processes call them. `load` must also be safe to call from several threads at once.

    Attributes:
        verb: what is done, such as `decode`. Progress lines and messages contain it.
        inputs: one for each clip, such as the path of its file.
        load: reads inputs into items, such as the contents of the files. Items are buffers or contiguous
            arrays. It runs on this machine.
        compute: returns the rows of items, and a verdict on each. A row may depend only on its own item. It
            may run on another machine.
        sources: the digest that each item must have, or None if the digests are not known.
    """

    verb: str
    inputs: Sequence[Input]
    load: Callable[[Sequence[Input]], Items]
    compute: Callable[[Items], tuple[Rows, list[Verdict[Note]]]]
    sources: Digests | None = None


def write(
    path: Path,
    contents: Contents,
    work: Work[Input, Items, Note],
    *,
    previous: Store | None = None,
    check: Callable[[list[Verdict[Note]]], None] | None = None,
) -> list[Verdict[Note]]:
    """Write a store with one row for each clip that is not rejected, and return the verdict on each clip.

    The file's bytes depend only on the parameters and on the clips that are not rejected: their ids, the
    digests of their items, and their rows. They do not depend on the number of workers, or on how many rows
    are copied. However many clips there are, memory contains only the rows of a few tasks.

    Args:
        path: where to write the store. The file appears there only when it is complete.
        contents: what the store contains besides its rows.
        work: how to compute rows.
        previous: a store whose rows the same code computed. If it has the same parameters, the row of an
            item whose digest is also there is copied, even if the clip has another id. Rows that no longer
            match their checksums are computed, with the few next to them.
        check: called with all verdicts before the file appears at `path`. If it raises, no file appears.

    Raises:
        PipelineError: an item does not have the expected digest, a value is not finite in the store's dtype,
            or all clips are rejected.
    """
    clips = contents.clips
    entries: _Entries[Note] = _Entries(len(clips))
    with atomic_write(path) as temporary, Progress(len(clips), "clips", work.verb) as progress:
        target = _allocate(temporary, len(clips), contents)
        expected = work.sources
        missing = list(range(len(clips)))
        if previous is not None and previous.params == contents.params:
            if expected is None:
                expected = _load_digests(work)
            for start, origin, checksums in _copy(target, expected, previous):
                entries.reuse(start, origin, expected, checksums)
                progress.update(len(checksums))
            missing = [index for index in missing if entries.verdicts[index].reused is None]
            progress.note(f"{len(clips) - len(missing):,} copied, {len(missing):,} to compute")
        for indices, computed in _compute(work, missing, target):
            _check_digests(clips, indices, computed, work.verb, expected)
            _check_finite(clips, indices, computed, work.verb, contents.dtype)
            entries.add(indices, computed)
            progress.update(len(indices))
        if check:
            check(entries.verdicts)
        accepted = [index for index, verdict in enumerate(entries.verdicts) if verdict.rejected is None]
        if not accepted:
            raise PipelineError(
                f"{work.verb} rejected all {len(clips)} clips, so {path} is not written. The first is"
                f" {clips[0]}: {entries.verdicts[0].rejected}. Replace the clips"
            )
        if len(accepted) < len(clips):
            _drop_rejected(temporary, target, accepted, contents)
        with h5py.File(temporary, "r+") as file:
            ids = [clips[index].encode() for index in accepted]
            file["clip"] = np.array(ids, h5py.string_dtype("utf-8", max(map(len, ids))))
            file["checksum"] = entries.checksums[accepted]
            file["source"] = entries.sources[accepted]
            file.attrs["params"] = json.dumps(contents.params, sort_keys=True)
    return entries.verdicts


@dataclass
class _Computed(Generic[Note]):
    """The digests and verdicts of one task's rows."""

    sources: list[Digests] = field(default_factory=list)
    checksums: list[Digests] = field(default_factory=list)
    finite: list[NDArray[np.bool_]] = field(default_factory=list)  # whether all values of a row are finite
    verdicts: list[Verdict[Note]] = field(default_factory=list)

    def compute_rows(
        self,
        compute: Callable[[Items], tuple[Rows, list[Verdict[Note]]]],
        items: Items,
        dtype: np.dtype[Any],
    ) -> Rows:
        """Return the rows of `items` as `dtype`, and append their digests and verdicts."""
        values, verdicts = compute(items)
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(values, dtype)
        self.sources.append(digests(items))
        self.checksums.append(digests(rows))
        self.finite.append(np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
        self.verdicts += verdicts
        return rows


class _Entries(Generic[Note]):
    """The digests and verdicts of all rows."""

    def __init__(self, num_clips: int) -> None:
        self.sources = np.zeros(num_clips, "V16")
        self.checksums = np.zeros(num_clips, "V16")
        self.verdicts: list[Verdict[Note]] = [Verdict()] * num_clips

    def add(self, indices: list[int], computed: _Computed[Note]) -> None:
        """Record that the rows with these `indices` were computed."""
        self.sources[indices] = np.concatenate(computed.sources)
        self.checksums[indices] = np.concatenate(computed.checksums)
        for index, verdict in zip(indices, computed.verdicts, strict=True):
            self.verdicts[index] = verdict

    def reuse(self, start: int, origin: int, sources: Digests, checksums: Digests) -> None:
        """Record that rows from `start` on are copies of the previous store's rows from `origin` on."""
        copied = slice(start, start + len(checksums))
        self.sources[copied], self.checksums[copied] = sources[copied], checksums
        self.verdicts[copied] = [Verdict(reused=origin + offset) for offset in range(len(checksums))]


def _check_digests(
    clips: list[str], indices: list[int], computed: _Computed[Note], verb: str, expected: Digests | None
) -> None:
    if expected is None:
        return
    mismatched = np.flatnonzero(expected[indices] != np.concatenate(computed.sources))
    if mismatched.size:
        raise PipelineError(
            f"{clips[indices[mismatched[0]]]}: the input of {verb} does not match its checksum, so it was"
            " changed or damaged: run dvc checkout --force, then dvc repro"
        )


def _check_finite(
    clips: list[str], indices: list[int], computed: _Computed[Note], verb: str, dtype: str
) -> None:
    not_finite = np.flatnonzero(~np.concatenate(computed.finite))
    if not_finite.size:
        advice = "set the feature's dtype to float32" if dtype == "float16" else "lower the clip's volume"
        raise PipelineError(
            f"{clips[indices[not_finite[0]]]}: {verb} computed a value that is not finite in {dtype}:"
            f" {advice}, or remove the clip"
        )


# ----------------------------------------------------------------------------------------------- the file


@dataclass(frozen=True)
class _Target:
    """The location and the layout of the rows in a file.

    Rows are written without HDF5, because it does not let several processes open a file for writing.
    """

    path: Path
    offset: int  # bytes from the file's start to its first row
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row_shape) * self.dtype.itemsize

    def write(self, file: int, indices: Sequence[int], rows: Rows) -> None:
        """Write `rows` to the file descriptor `file`, each at its index in `indices`."""
        for start, stop in _runs(indices):
            data, position = rows[start:stop].data.cast("B"), self.offset + indices[start] * self.row_bytes
            while data:
                written = os.pwrite(file, data, position)
                data, position = data[written:], position + written


def _allocate(path: Path, num_rows: int, contents: Contents) -> _Target:
    """Create a file with space for `num_rows` rows, and return where they belong."""
    dtype = np.dtype(contents.dtype).newbyteorder("<")
    size = num_rows * math.prod(contents.row_shape) * dtype.itemsize
    if size >= LARGEST_FILE:
        raise _no_room(errno.EFBIG, path, size)
    with _errors_of_the_system(path, size):
        offset = _create(path, (num_rows, *contents.row_shape), dtype)
        if hasattr(os, "posix_fallocate"):
            # Reserve the blocks on disk too. Writing then takes a third less time, and a full disk is an
            # error before anything is computed.
            with path.open("r+b", buffering=0) as file:
                os.posix_fallocate(file.fileno(), offset, size)
    return _Target(path, offset, contents.row_shape, dtype)


def _create(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Create a file with the dataset `values`, and return the offset of its rows in bytes."""
    # HDF5 allocates the space now, so that the offset of the rows is known. Timestamps are off, because they
    # would differ from run to run.
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(shape)
        values = h5py.h5d.create(file.id, b"values", h5py.h5t.py_create(dtype), space, layout)
        offset: int = values.get_offset()
    return offset


@contextmanager
def _errors_of_the_system(path: Path, size: int) -> Iterator[None]:
    """Raise an OSError that says how many bytes the file at `path` needs, if there is no room for it.

    HDF5 reports the system's error only in the text of a RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        code = int(number[1]) if number else getattr(error, "errno", None)
        if code is None:
            raise
        raise _no_room(code, path, size) from None


def _no_room(code: int, path: Path, size: int) -> OSError:
    return OSError(code, f"{os.strerror(code)}, it needs {size:,} bytes", str(path))


def _drop_rejected(path: Path, target: _Target, accepted: list[int], contents: Contents) -> None:
    """Rewrite the file at `path`, which contains nothing but rows yet, with only its `accepted` rows."""
    smaller = path.with_name(f"accepted-{path.name}")
    new = _allocate(smaller, len(accepted), contents)
    shape = (accepted[-1] + 1, *target.row_shape)
    rows = np.memmap(path, target.dtype, mode="r", offset=target.offset, shape=shape)
    with smaller.open("r+b", buffering=0) as file:
        for indices in _pieces(range(len(accepted)), CLIPS_PER_TASK):
            new.write(file.fileno(), indices, rows[[accepted[index] for index in indices]])
    smaller.replace(path)


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each run of consecutive numbers: `numbers[start:stop]` is n, n + 1, n + 2, …"""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    yield from pairwise([0, *breaks.tolist(), len(numbers)]) if len(numbers) else ()


def _pieces(sequence: Sequence[Input], length: int) -> Iterator[Sequence[Input]]:
    """Yield `sequence` in pieces of `length`. The last one may be shorter."""
    return (sequence[start : start + length] for start in range(0, len(sequence), length))


# -------------------------------------------------------------------------------------------- computed rows


def _compute(
    work: Work[Input, Items, Note], missing: list[int], target: _Target
) -> Iterator[tuple[list[int], _Computed[Note]]]:
    """Compute and write the `missing` rows. Yield each task's row indices, and its digests and verdicts."""
    tasks = [
        (list(indices), [work.inputs[index] for index in indices])
        for indices in _pieces(missing, CLIPS_PER_TASK)
    ]
    if not parallel.remote():
        write_rows = _WriteRows(work.load, work.compute, target)
        for (indices, _), computed in zip(tasks, parallel.each(write_rows, tasks), strict=True):
            yield indices, computed
        return
    # Workers on other machines do not have the project's folder. So this process loads the items, sends them
    # together with the code of `compute`, and writes the rows that come back.
    with target.path.open("r+b", buffering=0) as file:
        results = parallel.each(
            _ReturnRows(work.compute, target.dtype),
            tasks,
            prepare=lambda task: [work.load(piece) for piece in _pieces(task[1], CLIPS_AT_A_TIME)],
        )
        for (indices, _), (computed, rows) in zip(tasks, results, strict=True):
            target.write(file.fileno(), indices, rows)
            yield indices, computed


@dataclass(frozen=True)
class _WriteRows(Generic[Input, Items, Note]):
    """Computes a task's rows and writes them to the file."""

    load: Callable[[Sequence[Input]], Items]
    compute: Callable[[Items], tuple[Rows, list[Verdict[Note]]]]
    target: _Target

    def __call__(self, task: tuple[list[int], list[Input]]) -> _Computed[Note]:
        indices, inputs = task
        computed: _Computed[Note] = _Computed()
        with self.target.path.open("r+b", buffering=0) as file:
            for start in range(0, len(inputs), CLIPS_AT_A_TIME):
                piece = slice(start, start + CLIPS_AT_A_TIME)
                rows = computed.compute_rows(self.compute, self.load(inputs[piece]), self.target.dtype)
                self.target.write(file.fileno(), indices[piece], rows)
        return computed


@dataclass(frozen=True)
class _ReturnRows(Generic[Items, Note]):
    """Computes a task's rows and returns them."""

    compute: Callable[[Items], tuple[Rows, list[Verdict[Note]]]]
    dtype: np.dtype[Any]

    def __call__(self, loaded: list[Items]) -> tuple[_Computed[Note], Rows]:
        computed: _Computed[Note] = _Computed()
        rows = [computed.compute_rows(self.compute, items, self.dtype) for items in loaded]
        return computed, np.concatenate(rows)


# ---------------------------------------------------------------------------------------------- copied rows


def _load_digests(work: Work[Input, Items, Note]) -> Digests:
    """Load the item of each input, and return the items' digests."""
    loaded = []
    with (
        ThreadPoolExecutor(parallel.jobs()) as threads,
        Progress(len(work.inputs), "clips", f"{work.verb} (checksums)") as progress,
    ):
        pieces = _pieces(work.inputs, CLIPS_AT_A_TIME)
        for sources in threads.map(lambda piece: digests(work.load(piece)), pieces):
            loaded.append(sources)
            progress.update(len(sources))
    return np.concatenate(loaded)


def _copy(target: _Target, sources: Digests, previous: Store) -> Iterator[tuple[int, int, Digests]]:
    """Copy the rows whose source digest is also in `previous`.

    Yields, for each stretch of rows, its first index in the new store, its first index in `previous`, and the
    rows' checksums. A stretch in which a row does not match its checksum is not copied.
    """
    previous_index = {source: index for index, source in enumerate(previous.sources.tolist())}
    # -2 means no row. `_runs` would join -1 to a row 0 that follows it.
    origins = [previous_index.get(source, -2) for source in sources.tolist()]
    stretches = [
        (start, origins[start], min(CLIPS_AT_A_TIME, last - start))
        for first, last in _runs(origins)
        for start in range(first, last, CLIPS_AT_A_TIME)
        if origins[start] >= 0
    ]
    # The file is not mapped: one small buffer stays in the core's cache. One thread is enough: the system
    # makes writes to the same file wait for each other, and copying does little besides writing.
    buffer = np.empty((CLIPS_AT_A_TIME, *target.row_shape), target.dtype)
    with previous.path.open("rb", buffering=0) as old, target.path.open("r+b", buffering=0) as file:
        for start, origin, length in stretches:
            rows, checksums = buffer[:length], previous.checksums[origin : origin + length]
            position = previous.offset + origin * target.row_bytes
            read = os.preadv(old.fileno(), [rows.data.cast("B")], position)
            if read == rows.nbytes and (digests(rows) == checksums).all():
                target.write(file.fileno(), range(start, start + length), rows)
                yield start, origin, checksums
