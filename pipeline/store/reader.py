"""Reads rows of a store without copying them."""

import numpy as np

from pipeline.errors import PipelineError
from pipeline.store.layout import DTYPE, Rows, Store, checksum


def rows(store: Store) -> Rows:
    """Return all rows of `store`, mapped from the file, read-only: (clips, ...) float32.

    Only what is touched is read. The file needs no handle of HDF5's, so the same store can be read by
    threads and processes at once.
    """
    return np.memmap(store.path, DTYPE, mode="r", offset=store.offset, shape=store.shape)


def validate(store: Store) -> None:
    """Raise PipelineError naming the first block of rows that is not as it was written."""
    values = rows(store)
    for block, expected in enumerate(store.crc32):
        start, stop = block * store.block, min((block + 1) * store.block, len(values))
        found = checksum(values[start:stop])
        if found != expected:
            raise PipelineError(
                f"{store.path}: rows {start} to {stop - 1} ({store.clips[start]} and on) have the CRC-32"
                f" {found:08x}, expected {expected:08x}: delete the file and run dvc repro or dvc checkout"
            )
