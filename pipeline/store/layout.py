"""What a store is: one HDF5 file with one array per clip.

====================  =============================================================================
`values`              little-endian float32 (clips, ...), contiguous, without a filter: the rows lie
                      in the file as they lie in memory, and can be mapped
`clip`                the clips' ids, `<label>/<file>`, in the order of the rows
attribute `labels`    the names of the labels, sorted
attribute `params`    the parameters that made the store, as JSON with sorted keys
attribute `block`     rows per checksum
attribute `crc32`     the CRC-32 of each block of rows
====================  =============================================================================

The same rows under the same parameters are the same bytes: nothing in the file knows when, where or in
which order it was written.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError

DTYPE = np.dtype("<f4")

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Store:
    """What a store says of itself, without its rows."""

    path: Path
    clips: list[str]
    labels: list[str]
    params: dict[str, Any]
    shape: tuple[int, ...]
    offset: int
    block: int
    crc32: NDArray[np.uint32]


def rows_per_block(rows: int) -> int:
    """Return how many rows share a checksum: 64, or more in a store of over half a million rows.

    An HDF5 attribute holds 64 KiB at most, 16,384 checksums. The number follows from `rows` alone, so
    that it is the same in any run.
    """
    return max(64, -(-rows // 8192))


def checksum(rows: Rows) -> int:
    """Return the CRC-32 of the bytes of `rows`."""
    return zlib.crc32(np.ascontiguousarray(rows, DTYPE).data)


def describe(path: Path) -> Store:
    """Return what the store at `path` says of itself.

    Raises PipelineError where it is no store: not HDF5, without `values`, or with rows that do not lie
    one behind the other in the file.
    """
    try:
        with h5py.File(path, "r") as file:
            values = file["values"]
            offset = values.id.get_offset()
            if values.chunks is not None or values.dtype != DTYPE or offset is None:
                raise PipelineError(
                    f"{path}: values must be contiguous {DTYPE.str}, is {values.dtype.str}"
                    f" in chunks of {values.chunks}: run the stage that wrote it again"
                )
            return Store(
                path=path,
                clips=[str(clip) for clip in file["clip"].asstr()[:]],
                labels=[str(label) for label in file.attrs["labels"]],
                params=json.loads(file.attrs["params"]),
                shape=tuple(values.shape),
                offset=offset,
                block=int(file.attrs["block"]),
                crc32=file.attrs["crc32"],
            )
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull where it is shared") from None
    except (KeyError, OSError) as error:
        raise PipelineError(f"{path} is not a store: {error}: run the stage that wrote it again") from None
