"""Read rows of a store without copying them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.records import again
from pipeline.store.layout import Rows, Store, digests


@dataclass(frozen=True)
class Place:
    """Where a store's rows are in its file: all that another process needs to read them."""

    path: Path
    dtype: np.dtype[Any]
    offset: int  # bytes
    shape: tuple[int, ...]

    def rows(self) -> Rows:
        """Return all rows (clips, ...), mapped from the file, read-only.

        Only the rows that you touch are read. The file is not opened with HDF5, so threads and processes
        can read it at the same time.
        """
        return np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)

    def read(self, start: int, stop: int) -> Rows:
        """Return rows `start` to `stop - 1` as a copy. For a few rows this takes half as long as mapping."""
        length = math.prod(self.shape[1:])
        offset = self.offset + start * length * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (stop - start) * length, offset=offset)
        return values.reshape(stop - start, *self.shape[1:])


def place(store: Store) -> Place:
    """Return where the rows of `store` are."""
    return Place(store.path, store.dtype, store.offset, store.shape)


def rows(store: Store) -> Rows:
    """Return all rows of `store` (clips, ...), mapped from the file, read-only.

    >>> store = describe(Path("data/features/logmel.h5"))
    >>> rows(store)[0].shape
    """
    return place(store).rows()


def verify(store: Store, indices: Sequence[int]) -> None:
    """Compare the rows with these `indices` with their checksums.

    Raises PipelineError that names the first clip whose row has changed since it was written.
    """
    stored = rows(store)
    for index in indices:
        if digests([stored[index]])[0] != store.checksums[index]:
            raise PipelineError(
                f"{store.path}: the row of {store.clips[index]} has changed since it was written:"
                f" {again(store.path)}"
            )
