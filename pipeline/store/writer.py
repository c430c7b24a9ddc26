"""Writes a store, its rows computed in parallel and each put where it belongs in the file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import h5py
import numpy as np

from pipeline import parallel
from pipeline.files import replacing
from pipeline.progress import Progress
from pipeline.store.layout import DTYPE, Rows, checksum, rows_per_block

Note = TypeVar("Note")


def write(
    path: Path,
    compute: Callable[[int, int], tuple[Rows, Note]],
    *,
    clips: list[str],
    row_shape: tuple[int, ...],
    params: dict[str, Any],
    verb: str,
) -> list[Note]:
    """Write the store at `path`, one row of `row_shape` for each of `clips`.

    `compute(start, stop)` returns the rows from `start` up to `stop`, float32, and whatever else there is
    to say of them; it is pickled and called in other processes, one block of rows at a time. Those notes
    are returned, in the order of the blocks. `params` is what the rows depend on. The bytes of the file
    depend on nothing but the arguments; memory holds a few blocks, however many clips there are.
    """
    shape = (len(clips), *row_shape)
    block = rows_per_block(len(clips))
    spans = [(start, min(start + block, len(clips))) for start in range(0, len(clips), block)]
    notes, checksums = [], []
    with replacing(path) as part:
        offset = _allocate(part, shape)
        fill = _Fill(compute, part, offset, shape)
        with Progress(len(clips), "clips", verb) as progress:
            for (start, stop), (crc32, note) in zip(spans, parallel.each(fill, spans), strict=True):
                checksums.append(crc32)
                notes.append(note)
                progress.update(stop - start)
        with h5py.File(part, "r+") as file:
            ids = [clip.encode() for clip in clips]
            file["clip"] = np.array(ids, h5py.string_dtype("utf-8", max(map(len, ids))))
            file.attrs["labels"] = sorted({clip.partition("/")[0] for clip in clips})
            file.attrs["params"] = json.dumps(params, sort_keys=True)
            file.attrs["block"] = block
            file.attrs["crc32"] = np.array(checksums, "<u4")
    return notes


def _allocate(path: Path, shape: tuple[int, ...]) -> int:
    # The space is allocated at once, so that the rows' place in the file is known before any is written,
    # and without object times, which would differ from run to run.
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple(shape)
        values = h5py.h5d.create(file.id, b"values", h5py.h5t.IEEE_F32LE, space, layout)
        offset: int = values.get_offset()
    return offset


@dataclass(frozen=True)
class _Fill(Generic[Note]):
    compute: Callable[[int, int], tuple[Rows, Note]]
    path: Path
    offset: int
    shape: tuple[int, ...]

    def __call__(self, span: tuple[int, int]) -> tuple[int, Note]:
        start, stop = span
        rows, note = self.compute(start, stop)
        values = np.memmap(self.path, DTYPE, mode="r+", offset=self.offset, shape=self.shape)
        values[start:stop] = rows
        return checksum(rows), note
