"""The layout of a store: one HDF5 file with one array per clip.

====================  =============================================================================
`values`              little-endian float32 or float16 (clips, ...), contiguous and without a filter:
                      the rows are in the file as they are in memory, and can be mapped
`clip`                the clips' ids, in the order of the rows
`checksum`            opaque (clips,): the XXH3-128 of each row's bytes
`source`              opaque (clips,): the XXH3-128 of what each row was computed from. A waveform is
                      computed from an audio file, a feature from a row of waveforms
attribute `params`    what the rows depend on, as JSON with sorted keys: `audio`, and for a feature also
                      `feature`: its name, its parameters, and what it declares of its values
====================  =============================================================================

The same rows with the same parameters give the same bytes. The file does not say when, where or in which
order it was written.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.errors import PipelineError

DTYPES = tuple(np.dtype(name) for name in ("<f4", "<f2"))

# (clips, ...) float32 or float16.
Rows = NDArray[Any]
# (clips,) of 16 bytes each.
Digests = NDArray[np.void]


@dataclass(frozen=True)
class Store:
    """A store without its rows."""

    path: Path
    clips: list[str]
    params: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # bytes from the file's start to its first row
    checksums: Digests
    sources: Digests

    @property
    def feature(self) -> str | None:
        """The name of the feature in the store, or None if it contains waveforms."""
        return self.params["feature"]["name"] if "feature" in self.params else None


def digests(items: Iterable[Any]) -> Digests:
    """Return the XXH3-128 of each item's bytes; items are buffers or contiguous arrays."""
    joined = b"".join(xxhash.xxh3_128_digest(memoryview(item).cast("B")) for item in items)
    return np.frombuffer(joined, "V16")


def describe(path: Path) -> Store:
    """Return the store at `path`, without reading its rows.

    Raises PipelineError if it is not a store: it is not HDF5, is cut short, has a part missing, has parts
    that do not fit together, or its rows are not contiguous.

    >>> store = describe(Path("data/features/logmel.h5"))
    >>> store.shape, store.clips[0]
    """
    try:
        return _described(path)
    except _NotAStoreError as error:
        raise PipelineError(f"{path} is not a store: {error}: run the stage that wrote it again") from None


class _NotAStoreError(Exception):
    """Why a file is not a store."""


def _described(path: Path) -> Store:
    if path.is_dir():
        raise _NotAStoreError("it is a folder")
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull if you have a remote") from None
    except OSError as error:
        raise _NotAStoreError(error) from None
    with file:
        values = _dataset(file, "values")
        params = _params(file)
        clips = _text(_read(_dataset(file, "clip")), "clip")
        checksums, sources = (_digests(_dataset(file, name), name) for name in ("checksum", "source"))
        offset = _offset(values, path, rank=3 if "feature" in params else 2)
        for name, entries in (("clip", len(clips)), ("checksum", len(checksums)), ("source", len(sources))):
            if entries != values.shape[0]:
                raise _NotAStoreError(f"{name} has {entries} entries, values {values.shape[0]} rows")
        return Store(path, clips, params, tuple(values.shape), values.dtype, offset, checksums, sources)


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    try:
        dataset = file[name]
    except (KeyError, OSError, RuntimeError):  # h5py raises the last two for damaged metadata
        raise _NotAStoreError(f"it has no {name}") from None
    if not isinstance(dataset, h5py.Dataset):
        raise _NotAStoreError(f"{name} must be a dataset, is a group")
    return dataset


def _read(dataset: h5py.Dataset) -> Any:
    try:
        return dataset[:]
    except (OSError, RuntimeError, ValueError) as error:  # what h5py raises for damage, or for a scalar
        raise _NotAStoreError(f"{dataset.name} cannot be read: {error}") from None


def _attribute(file: h5py.File, name: str) -> Any:
    try:
        return file.attrs[name]
    except (KeyError, OSError, RuntimeError):
        raise _NotAStoreError(f"it has no attribute {name}") from None


def _params(file: h5py.File) -> dict[str, Any]:
    try:
        params = json.loads(_attribute(file, "params"))
    except (TypeError, ValueError) as error:
        raise _NotAStoreError(f"params is not JSON: {error}") from None
    if not isinstance(params, dict):
        raise _NotAStoreError(f"params must be an object, is {params!r}")
    if "feature" in params:
        feature = params["feature"]
        name = feature.get("name") if isinstance(feature, dict) else None
        if not isinstance(name, str):
            raise _NotAStoreError(f"the feature's name must be text, is {name!r}")
    return params


def _text(entries: Any, name: str) -> list[str]:
    items = np.atleast_1d(entries).tolist()
    try:
        return [item.decode() if isinstance(item, bytes) else _checked_text(item) for item in items]
    except (TypeError, UnicodeDecodeError):
        raise _NotAStoreError(f"{name} must be text in UTF-8") from None


def _checked_text(item: object) -> str:
    if not isinstance(item, str):
        raise TypeError
    return item


def _digests(dataset: h5py.Dataset, name: str) -> Digests:
    if dataset.dtype != np.dtype("V16"):
        raise _NotAStoreError(f"{name} must have 16 bytes for each row, has {dataset.dtype.str}")
    entries: Digests = _read(dataset)
    return entries


def _offset(values: h5py.Dataset, path: Path, *, rank: int) -> int:
    if values.dtype not in DTYPES:
        expected = " or ".join(dtype.str for dtype in DTYPES)
        raise _NotAStoreError(f"values must be {expected}, is {values.dtype.str}")
    if len(values.shape) != rank:
        raise _NotAStoreError(f"values must have {rank} dimensions, has the shape {values.shape}")
    offset: int | None = values.id.get_offset()
    if values.chunks is not None or offset is None:
        raise _NotAStoreError(f"values must be contiguous, is in chunks of {values.chunks}")
    size, end = path.stat().st_size, offset + int(np.prod(values.shape)) * values.dtype.itemsize
    if size < end:
        raise _NotAStoreError(f"it is cut short at byte {size} of {end}")
    return offset
