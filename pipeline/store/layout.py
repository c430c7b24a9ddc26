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

import math
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Any, Literal

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.records import Name, Record, checked, not_a_file, parse_json

# Kinds of messages in the header of an HDF5 object, a class of types, and how many pieces a header may have.
ATTRIBUTE, CONTINUATION = 0x0C, 0x10
VARIABLE_LENGTH = 9
MAX_PIECES = 8
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

    A file may be damaged, or made by somebody else. So nothing is read from outside of it, and no more
    than it has bytes.

    Raises PipelineError if it is not a store: it is not a file of HDF5, is cut short, has a part missing, has
    parts that do not fit together or are in other files, or its rows are not contiguous.

    >>> store = describe(Path("data/features/logmel.h5"))
    >>> store.shape, store.clips[0]
    """
    try:
        return _described(path)
    except _NotAStoreError as error:
        raise PipelineError(f"{path} is not a store: {error}: run dvc repro") from None


class _NotAStoreError(Exception):
    """Why a file is not a store."""


class _Axis(Record):
    kind: Literal["hertz", "mel", "cepstrum"]
    low: float
    high: float


class _FrameTimes(Record):
    first: float
    step: float = Field(gt=0)


class _Audio(Record):
    sample_rate: int | None = Field(None, gt=0)
    duration: float | None = Field(None, gt=0)


class _Feature(Record):
    name: Name
    params: dict[str, Any] | None = None
    scale: Literal["magnitude", "decibel"] | None = None
    axis: _Axis | None = None
    frame_times: _FrameTimes | None = None


class _Params(Record):
    """The parts of the attribute `params` that are used. There may be more."""

    audio: _Audio | None = None
    feature: _Feature | None = None


def _described(path: Path) -> Store:
    kind = not_a_file(path)
    if kind:
        raise _NotAStoreError(f"it is {kind}")
    with path.open("rb"):
        size = path.stat().st_size  # what forbids to open it is no fault of the file
    with _read("it is damaged, or no HDF5 file"), h5py.File(path, "r") as file:
        params = _params(path, h5py.h5o.get_info(file.id).addr, size)
        values = _dataset(file, "values", size)
        if values.dtype not in DTYPES:
            expected = " or ".join(dtype.str for dtype in DTYPES)
            raise _NotAStoreError(f"values must be {expected}, is {values.dtype.str}")
        rank = 3 if "feature" in params else 2
        if len(values.shape) != rank:
            raise _NotAStoreError(f"values must have {rank} dimensions, has the shape {values.shape}")
        if 0 in values.shape:
            raise _NotAStoreError(f"values must not be empty, has the shape {values.shape}")
        entries = {name: _dataset(file, name, size) for name in ("clip", "checksum", "source")}
        for name, dataset in entries.items():
            if dataset.shape != values.shape[:1]:
                raise _NotAStoreError(
                    f"{name} has {_count(dataset.shape)} entries, values {values.shape[0]} rows"
                )
        clips = _ids(entries.pop("clip"))
        checksums, sources = (_digests(dataset, name) for name, dataset in entries.items())
        offset = values.id.get_offset()
        shape, dtype = tuple(values.shape), values.dtype
    length = math.prod(shape[1:])
    row = np.fromfile(path, dtype, length, offset=offset)
    if len(row) < length or digests([row])[0] != checksums[0]:
        raise _NotAStoreError(f"its first row, {clips[0]}, is not what was written")
    return Store(path, clips, params, shape, dtype, offset, checksums, sources)


@contextmanager
def _read(problem: str) -> Iterator[None]:
    """Turn what h5py raises for damaged files into one error with the text `problem`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, OverflowError, struct.error):
        raise _NotAStoreError(problem) from None


def _dataset(file: h5py.File, name: str, size: int) -> h5py.Dataset:
    """Return the dataset `name`, whose values are in one piece in the first `size` bytes of the file."""
    with _read(f"{name} is damaged"):
        links = file.id.links  # to look up a name in `file` would follow a link into another file
        if not links.exists(name.encode()):
            raise _NotAStoreError(f"it has no {name}")
        if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise _NotAStoreError(f"{name} must be in the file, is a link")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise _NotAStoreError(f"{name} must be a dataset, is a {type(dataset).__name__}")
        if dataset.shape is None:
            raise _NotAStoreError(f"{name} has no values")
        layout = dataset.id.get_create_plist().get_layout()
        offset = dataset.id.get_offset()
        if layout != h5py.h5d.CONTIGUOUS or dataset.external or offset is None:
            raise _NotAStoreError(f"{name} must be contiguous and in the file")
        end = offset + math.prod(dataset.shape) * dataset.dtype.itemsize
    if end > size:
        raise _NotAStoreError(f"it is cut short at byte {size}: {name} ends at {end}")
    return dataset


def _count(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no"


def _params(path: Path, root: int, size: int) -> dict[str, Any]:
    """Return the attribute `params` of the root group, which is at byte `root` of the file's `size` bytes."""
    with _read("its attribute params is damaged"), path.open("rb") as file:
        content = _Raw(file, size).text_attribute(root, b"params\0")
    if content is None:
        raise _NotAStoreError("it has no attribute params, or not one as this project stores it")
    try:
        params = parse_json(content, dict[str, Any], "params", remedy="-")
        checked(params, _Params, "params", remedy="-")
    except PipelineError as error:
        raise _NotAStoreError(str(error).removesuffix(": -")) from None
    return params


@dataclass(frozen=True)
class _Raw:
    """Reads an attribute without HDF5, which may hang on a damaged one, or allocate what the file claims.

    The numbers in the docstrings are the sections of the HDF5 File Format Specification, version 3.
    """

    file: IO[bytes]
    size: int  # of the file

    def _at(self, start: int, length: int) -> bytes:
        self.file.seek(start)
        return self.file.read(min(length, self.size))

    def text_attribute(self, root: int, name: bytes) -> bytes | None:
        """Return the text of the attribute with this name, which ends with a NUL: IV.A.1.a, IV.A.2.m."""
        version, length = struct.unpack("<B7xI", self._at(root, 12))
        pieces = [(root + 16, length)] if version == 1 else []
        for start, piece_length in pieces:
            piece, position = self._at(start, piece_length), 0
            while position + 8 <= len(piece):
                kind, length = struct.unpack_from("<HH", piece, position)
                message = piece[position + 8 : position + 8 + length]
                position += 8 + length
                if kind == CONTINUATION and len(pieces) < MAX_PIECES:
                    pieces.append(struct.unpack_from("<QQ", message))
                if kind == ATTRIBUTE and message[8 : 8 + len(name)] == name:
                    parts = struct.unpack_from("<2xHHH", message)  # the lengths of name, type and space
                    ends = list(accumulate((-(-part // 8) * 8 for part in parts), initial=8))
                    if message[ends[1]] & 0x0F == VARIABLE_LENGTH:
                        return self._heap_object(*struct.unpack_from("<IQI", message, ends[-1]))
        return None

    def _heap_object(self, length: int, address: int, index: int) -> bytes | None:
        """Return an object of `length` bytes in the global heap: III.E."""
        signature, total = struct.unpack("<4s4xQ", self._at(address, 16))
        heap, position = self._at(address, total) if signature == b"GCOL" else b"", 16
        while position + 16 <= len(heap):
            number, used = struct.unpack_from("<H6xQ", heap, position)
            if number == index:
                content = heap[position + 16 : position + 16 + length]
                return content if used == len(content) == length else None
            position += 16 + -(-used // 8) * 8
        return None


def _ids(dataset: h5py.Dataset) -> list[str]:
    if dataset.dtype.kind != "S":
        raise _NotAStoreError(f"clip must be text of a fixed length, is {dataset.dtype.str}")
    with _read("clip is damaged"):
        entries = dataset[:].tolist()
    try:
        clips = [entry.decode("utf-8") for entry in entries]
    except UnicodeDecodeError:
        raise _NotAStoreError("clip must be text in UTF-8") from None
    for before, clip in pairwise(clips):
        if not before < clip:
            problem = f"{clip!r} is there twice" if before == clip else f"{clip!r} comes after {before!r}"
            raise _NotAStoreError(f"clip must have sorted ids, each once: {problem}")
    return clips


def _digests(dataset: h5py.Dataset, name: str) -> Digests:
    if dataset.dtype != np.dtype("V16"):
        raise _NotAStoreError(f"{name} must have 16 bytes for each row, has {dataset.dtype.str}")
    with _read(f"{name} is damaged"):
        entries: Digests = dataset[:]
    return entries
