"""Writes a store: rows that are known are copied, the others computed in parallel."""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import parallel
from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.progress import Progress
from pipeline.store.layout import Digests, Rows, Store, digests

# So many clips are computed at once, as their arrays stay in a core's cache: soxr and the features run
# fastest at 4 to 8.
CLIPS_AT_A_TIME = 8
CLIPS_PER_TASK = 64

Input = TypeVar("Input")
Items = TypeVar("Items", bound=Sequence[Any] | Rows)
Note = TypeVar("Note")


@dataclass(frozen=True)
class Work(Generic[Input, Items, Note]):
    """How rows come about. Both functions are pickled and called in other processes.

    `load` turns a few inputs, such as paths, into what they stand for, such as the files' bytes: buffers
    or contiguous arrays. It is called where the files are. `compute` turns those into rows and a note on
    each; it may be called on another machine. A row depends on its own item alone.
    """

    load: Callable[[Sequence[Input]], Items]
    compute: Callable[[Items], tuple[Rows, list[Note]]]


@dataclass(frozen=True)
class Known:
    """A row that was not computed: its number in the store that it was copied from."""

    row: int


def write(
    path: Path,
    work: Work[Input, Items, Note],
    inputs: Sequence[Input],
    *,
    clips: list[str],
    row_shape: tuple[int, ...],
    dtype: str,
    params: dict[str, Any],
    verb: str,
    sources: Digests | None = None,
    known: Store | None = None,
) -> list[Note | Known]:
    """Write the store at `path`, one row for each of `inputs`; return the notes on them.

    The file's bytes depend on `clips`, `params` and the rows alone: not on how many compute them, where,
    in which order, nor on what is known. Memory holds a few tasks' rows, however many clips there are.

    Args:
        path: the store; it is there when it is whole.
        work: computes the rows.
        inputs: what `work` loads, one for each clip.
        clips: the clips' ids.
        row_shape: of each row.
        dtype: of the rows, `float32` or `float16`.
        params: what the rows depend on.
        verb: what is being done, for the progress.
        sources: the digests of what `work` loads, where they are known. What is loaded must have them.
        known: a store of rows that the same code computed. Under the same parameters, a row of the same
            source is copied from there, if its checksum still holds.

    Raises:
        PipelineError: what is loaded is not what `sources` has, or a value is not finite in `dtype`.
    """
    shape = (len(clips), *row_shape)
    notes: list[Note | Known | None] = [None] * len(clips)
    with replacing(path) as part, Progress(len(clips), "clips", verb) as progress:
        target = _allocate(part, shape, dtype)
        checksums = np.zeros(len(clips), "V16")
        missing = list(range(len(clips)))
        if known is not None and known.params == params:
            if sources is None:
                sources = _identify(work, inputs, verb)
            for start, origin, sums in _copy(target, sources, known):
                stop = start + len(sums)
                checksums[start:stop] = sums
                notes[start:stop] = [Known(row) for row in range(origin, origin + len(sums))]
                progress.update(len(sums))
            missing = [row for row, note in enumerate(notes) if note is None]
            progress.note(f"{len(clips) - len(missing):,} copied, {len(missing):,} computed")
        expected, sources = sources, np.zeros_like(checksums) if sources is None else sources.copy()
        for rows, done in _compute(work, inputs, missing, target):
            sources[rows], checksums[rows] = np.concatenate(done.sources), np.concatenate(done.checksums)
            if expected is not None and (odd := np.flatnonzero(expected[rows] != sources[rows])).size:
                raise PipelineError(
                    f"{clips[rows[odd[0]]]}: what was read for it is not what was written there once: run dvc"
                    " checkout"
                )
            if (odd := np.flatnonzero(~np.concatenate(done.finite))).size:
                advice = "choose the dtype float32" if dtype == "float16" else "lower the clip's volume"
                raise PipelineError(
                    f"{clips[rows[odd[0]]]}: {verb} gives values beyond {dtype}: {advice}, or leave it out"
                )
            for row, note in zip(rows, done.notes, strict=True):
                notes[row] = note
            progress.update(len(rows))
        with h5py.File(part, "r+") as file:
            ids = [clip.encode() for clip in clips]
            file["clip"] = np.array(ids, h5py.string_dtype("utf-8", max(map(len, ids))))
            file["checksum"] = checksums
            file["source"] = sources
            file.attrs["labels"] = sorted({clip.partition("/")[0] for clip in clips})
            file.attrs["params"] = json.dumps(params, sort_keys=True)
    return notes  # type: ignore[return-value]  # every row has been copied or computed


@dataclass(frozen=True)
class _Target:
    """Where the rows belong in a file: they are written past HDF5, as it would let one process at a time."""

    path: Path
    offset: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.row_shape) * self.dtype.itemsize

    def write(self, file: int, where: Sequence[int], rows: Rows) -> None:
        for start, stop in _runs(where):
            data, place = rows[start:stop].data.cast("B"), self.offset + where[start] * self.row_bytes
            while data:
                written = os.pwrite(file, data, place)
                data, place = data[written:], place + written


@dataclass
class _Done(Generic[Note]):
    """What is to be said of a task's rows."""

    sources: list[Digests] = field(default_factory=list)
    checksums: list[Digests] = field(default_factory=list)
    finite: list[NDArray[np.bool_]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(
        self,
        compute: Callable[[Items], tuple[Rows, list[Note]]],
        items: Items,
        dtype: np.dtype[Any],
    ) -> Rows:
        """Return the rows of `items`, of `dtype`, and remember what is to be said of them."""
        computed, notes = compute(items)
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(computed, dtype)
        self.sources.append(digests(items))
        self.checksums.append(digests(rows))
        self.finite.append(np.isfinite(rows).reshape(len(rows), -1).all(axis=1))
        self.notes += notes
        return rows


def _allocate(path: Path, shape: tuple[int, ...], dtype: str) -> _Target:
    # The space is allocated at once, so that the rows' place in the file is known before any is written,
    # and without object times, which would differ from run to run.
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    little = np.dtype(dtype).newbyteorder("<")
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(shape)
        values = h5py.h5d.create(file.id, b"values", h5py.h5t.py_create(little), space, layout)
        target = _Target(path, values.get_offset(), shape[1:], little)
    if hasattr(os, "posix_fallocate"):
        # The disk's blocks too: writing takes two thirds of the time then, and a full disk shows at once.
        with path.open("r+b", buffering=0) as file:
            os.posix_fallocate(file.fileno(), target.offset, shape[0] * target.row_bytes)
    return target


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the stretches of `rows` in which each number is one above the last."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    yield from pairwise([0, *breaks.tolist(), len(rows)]) if len(rows) else ()


def _pieces(sequence: Sequence[Input], length: int) -> Iterator[Sequence[Input]]:
    return (sequence[start : start + length] for start in range(0, len(sequence), length))


# -------------------------------------------------------------------------------------------- computed


def _compute(
    work: Work[Input, Items, Note], inputs: Sequence[Input], missing: list[int], target: _Target
) -> Iterator[tuple[list[int], _Done[Note]]]:
    tasks = [(list(rows), [inputs[row] for row in rows]) for rows in _pieces(missing, CLIPS_PER_TASK)]
    if not parallel.remote():
        for (rows, _), done in zip(tasks, parallel.each(_Fill(work, target), tasks), strict=True):
            yield rows, done
        return
    # Elsewhere there is neither the project's folder nor its code: what is loaded here goes there, and the
    # rows come back, to one writer.
    with target.path.open("r+b", buffering=0) as file:
        results = parallel.each(
            _Answer(work.compute, target.dtype),
            tasks,
            prepare=lambda task: [work.load(piece) for piece in _pieces(task[1], CLIPS_AT_A_TIME)],
        )
        for (rows, _), (done, values) in zip(tasks, results, strict=True):
            target.write(file.fileno(), rows, values)
            yield rows, done


@dataclass(frozen=True)
class _Fill(Generic[Input, Items, Note]):
    """Computes a task's rows and writes them where they belong."""

    work: Work[Input, Items, Note]
    target: _Target

    def __call__(self, task: tuple[list[int], list[Input]]) -> _Done[Note]:
        where, inputs = task
        done: _Done[Note] = _Done()
        with self.target.path.open("r+b", buffering=0) as file:
            for start in range(0, len(inputs), CLIPS_AT_A_TIME):
                some = slice(start, start + CLIPS_AT_A_TIME)
                rows = done.add(self.work.compute, self.work.load(inputs[some]), self.target.dtype)
                self.target.write(file.fileno(), where[some], rows)
        return done


@dataclass(frozen=True)
class _Answer(Generic[Items, Note]):
    """Computes a task's rows and returns them."""

    compute: Callable[[Items], tuple[Rows, list[Note]]]
    dtype: np.dtype[Any]

    def __call__(self, loaded: list[Items]) -> tuple[_Done[Note], Rows]:
        done: _Done[Note] = _Done()
        return done, np.concatenate([done.add(self.compute, items, self.dtype) for items in loaded])


# ---------------------------------------------------------------------------------------------- copied


def _identify(work: Work[Input, Items, Note], inputs: Sequence[Input], verb: str) -> Digests:
    """Return the digests of what `inputs` stand for."""
    found = []
    with (
        ThreadPoolExecutor(parallel.jobs()) as threads,
        Progress(len(inputs), "clips", f"{verb}, identify") as progress,
    ):
        pieces = _pieces(inputs, CLIPS_AT_A_TIME)
        for some in threads.map(lambda piece: digests(work.load(piece)), pieces):
            found.append(some)
            progress.update(len(some))
    return np.concatenate(found)


def _copy(target: _Target, sources: Digests, known: Store) -> Iterator[tuple[int, int, Digests]]:
    """Copy the rows whose source is known; yield where each stretch went to, came from, and its checksums."""
    index = {source: row for row, source in enumerate(known.sources.tolist())}
    origins = [index.get(source, -2) for source in sources.tolist()]  # -1 would seem to come before row 0
    stretches = [
        (start, origins[start], min(CLIPS_AT_A_TIME, last - start))
        for first, last in _runs(origins)
        for start in range(first, last, CLIPS_AT_A_TIME)
        if origins[start] >= 0
    ]
    # Read into the same few rows each time, not mapped: they stay in the core's cache. One thread, as the
    # system lets but one at a time write to a file.
    buffer = np.empty((CLIPS_AT_A_TIME, *target.row_shape), target.dtype)
    with known.path.open("rb", buffering=0) as old, target.path.open("r+b", buffering=0) as file:
        for start, origin, length in stretches:
            rows, checksums = buffer[:length], known.checksums[origin : origin + length]
            place = known.offset + origin * target.row_bytes
            read = os.preadv(old.fileno(), [rows.data.cast("B")], place)
            if read == rows.nbytes and (digests(rows) == checksums).all():
                target.write(file.fileno(), range(start, start + length), rows)
                yield start, origin, checksums
