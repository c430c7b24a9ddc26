"""What a store is: one HDF5 file with one array per clip.

====================  =============================================================================
`values`              little-endian float32 or float16 (clips, ...), contiguous, without a filter: the
                      rows lie in the file as they lie in memory, and can be mapped
`clip`                the clips' ids, `<label>/<file>`, in the order of the rows
`checksum`            opaque (clips,): the XXH3-128 of each row's bytes
`source`              opaque (clips,): the XXH3-128 of what each row was computed from: of waveforms
                      the audio file, of features the row of waveforms
attribute `labels`    the names of the labels, sorted
attribute `params`    the parameters that made the store, as JSON with sorted keys
====================  =============================================================================

The same rows under the same parameters are the same bytes: nothing in the file knows when, where or in
which order it was written.
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
from pipeline.params import FILE, load

DTYPES = tuple(np.dtype(name) for name in ("<f4", "<f2"))
# What a feature is, beside its parameters.
PROPERTIES = ("name", "magnitudes")

# (clips, ...) float32 or float16.
Rows = NDArray[Any]
# (clips,) of 16 bytes each.
Digests = NDArray[np.void]


@dataclass(frozen=True)
class Store:
    """What a store says of itself, without its rows."""

    path: Path
    clips: list[str]
    labels: list[str]
    params: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    checksums: Digests
    sources: Digests

    @property
    def feature(self) -> str | None:
        """The name of the feature that it holds; None: waveforms."""
        return self.params["feature"]["name"] if "feature" in self.params else None


def digests(items: Iterable[Any]) -> Digests:
    """Return the XXH3-128 of the bytes of each of `items`, buffers or contiguous arrays."""
    joined = b"".join(xxhash.xxh3_128_digest(memoryview(item).cast("B")) for item in items)
    return np.frombuffer(joined, "V16")


def describe(path: Path) -> Store:
    """Return what the store at `path` says of itself.

    Raises PipelineError where it is no store: not HDF5, cut short, without one of its parts, with parts that
    do not fit each other, or with rows that do not lie one behind the other in the file.
    """
    try:
        with h5py.File(path, "r") as file:
            return _described(path, file)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull where it is shared") from None
    # What h5py raises depends on what is broken.
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = "it is a folder" if path.is_dir() else str(error.args[0] if error.args else type(error))
        raise PipelineError(f"{path} is not a store: {reason}: run the stage that wrote it again") from None


def _described(path: Path, file: h5py.File) -> Store:
    values, params = file["values"], json.loads(file.attrs["params"])
    if not isinstance(values, h5py.Dataset) or values.dtype not in DTYPES:
        found = values.dtype.str if isinstance(values, h5py.Dataset) else "a group"
        raise ValueError(f"values must be {' or '.join(dtype.str for dtype in DTYPES)}, is {found}")
    offset = values.id.get_offset()
    if values.chunks is not None or offset is None:
        raise ValueError(f"values must be contiguous, is in chunks of {values.chunks}")
    rank = 3 if "feature" in params else 2
    if rank == 3 and not isinstance(params["feature"]["name"], str):
        raise TypeError(f"the feature's name must be text, is {params['feature']['name']!r}")
    if len(values.shape) != rank:
        raise ValueError(f"values must have {rank} dimensions, has the shape {values.shape}")
    end = offset + int(np.prod(values.shape)) * values.dtype.itemsize
    if path.stat().st_size < end:
        raise ValueError(f"it is cut short at byte {path.stat().st_size} of {end}")
    store = Store(
        path=path,
        clips=[str(clip) for clip in file["clip"].asstr()[:]],
        labels=[str(label) for label in file.attrs["labels"]],
        params=params,
        shape=tuple(values.shape),
        dtype=values.dtype,
        offset=offset,
        checksums=file["checksum"][:],
        sources=file["source"][:],
    )
    for name, entries in (("checksum", store.checksums), ("source", store.sources)):
        if entries.dtype != np.dtype("V16"):
            raise ValueError(f"{name} must hold 16 bytes for each row, holds {entries.dtype.str}")
    for name, number in {
        "clip": len(store.clips),
        "checksum": len(store.checksums),
        "source": len(store.sources),
    }.items():
        if number != values.shape[0]:
            raise ValueError(f"{name} has {number} entries, values {values.shape[0]} rows")
    return store


def differences(store: Store, params: dict[str, Any], feature: str | None) -> list[str]:
    """Return a line for each way in which `store` is not what params.yaml means.

    Args:
        store: the store.
        params: the content of params.yaml.
        feature: the name of the feature that it must hold; None: waveforms.
    """
    if store.feature != feature:
        holds, wanted = store.feature or "waveforms", feature or "waveforms"
        return [f"{store.path} must hold {wanted}, holds {holds}: run dvc repro"]
    sections = {"audio": store.params.get("audio", {})}
    if feature:
        described = store.params["feature"]
        sections[f"features.{feature}"] = {
            key: value for key, value in described.items() if key not in PROPERTIES
        }
    found = []
    for section, made in sections.items():
        now: Any = params
        for name in section.split("."):
            now = now.get(name) if isinstance(now, dict) else None
        if not made or not isinstance(now, dict):
            found.append(f"{store.path} and {FILE} must both have {section}: run dvc repro")
            continue
        # The waveforms depend on a part of `audio`, features on all of theirs.
        for key in made if section == "audio" else {**made, **now}:
            was, has = made.get(key, "none"), now.get(key, "none")
            if was != has:
                found.append(
                    f"{store.path} was made with {section}.{key} {was}, {FILE} has {has}: run dvc repro"
                )
    return found


def checked(path: Path, feature: str | None, *, beside: Store | None = None) -> Store:
    """Return what the store at `path` says of itself.

    Raises PipelineError where it is none, or not what params.yaml means, as `differences` says, or where it
    has other clips than the store `beside` it.
    """
    store = describe(path)
    found = differences(store, load(), feature)
    if beside and store.clips != beside.clips:
        found.append(f"{path} and {beside.path} hold different clips: run dvc repro")
    if found:
        raise PipelineError("\n".join(found))
    return store
