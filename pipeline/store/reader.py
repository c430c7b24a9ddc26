"""Reads rows of a store without copying them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store.layout import Rows, Store


@dataclass(frozen=True)
class Place:
    """Where a store's rows are: what another process needs to read them, and no more."""

    path: Path
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]

    def rows(self) -> Rows:
        """Return all rows, mapped from the file, read-only: (clips, ...).

        Only what is touched is read. The file needs no handle of HDF5's, so threads and processes can
        read it at once.
        """
        return np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)

    def read(self, start: int, stop: int) -> Rows:
        """Return the rows from `start` to before `stop`: a few take half the time that mapping them takes."""
        length = math.prod(self.shape[1:])
        offset = self.offset + start * length * self.dtype.itemsize
        values = np.fromfile(self.path, self.dtype, (stop - start) * length, offset=offset)
        return values.reshape(stop - start, *self.shape[1:])


def place(store: Store) -> Place:
    """Return where the rows of `store` are."""
    return Place(store.path, store.dtype, store.offset, store.shape)


def rows(store: Store) -> Rows:
    """Return all rows of `store`, mapped from the file, read-only: (clips, ...)."""
    return place(store).rows()
