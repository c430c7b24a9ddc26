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
from pipeline.params import FILE

DTYPES = tuple(np.dtype(name) for name in ("<f4", "<f2"))

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


def digests(items: Iterable[Any]) -> Digests:
    """Return the XXH3-128 of the bytes of each of `items`, buffers or contiguous arrays."""
    joined = b"".join(xxhash.xxh3_128_digest(memoryview(item).cast("B")) for item in items)
    return np.frombuffer(joined, "V16")


def describe(path: Path) -> Store:
    """Return what the store at `path` says of itself.

    Raises PipelineError where it is no store: not HDF5, cut short, without one of its parts, or with rows
    that do not lie one behind the other in the file.
    """
    try:
        with h5py.File(path, "r") as file:
            values = file["values"]
            offset = values.id.get_offset()
            if values.chunks is not None or values.dtype not in DTYPES or offset is None:
                raise PipelineError(
                    f"{path}: values must be contiguous {' or '.join(dtype.str for dtype in DTYPES)}, is"
                    f" {values.dtype.str} in chunks of {values.chunks}: run the stage that wrote it again"
                )
            return Store(
                path=path,
                clips=[str(clip) for clip in file["clip"].asstr()[:]],
                labels=[str(label) for label in file.attrs["labels"]],
                params=json.loads(file.attrs["params"]),
                shape=tuple(values.shape),
                dtype=values.dtype,
                offset=offset,
                checksums=file["checksum"][:],
                sources=file["source"][:],
            )
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull where it is shared") from None
    except (KeyError, OSError) as error:
        raise PipelineError(f"{path} is not a store: {error}: run the stage that wrote it again") from None


def differences(store: Store, params: dict[str, Any]) -> list[str]:
    """Return a line for each parameter that made `store` and is another in `params`, params.yaml's content.

    What params.yaml does not know, such as a feature's own properties, is not compared.
    """
    made = {"audio": store.params.get("audio", {})}
    feature = dict(store.params.get("feature", {}))
    if feature:
        made[f"features.{feature.pop('name')}"] = feature
    found = []
    for section, values in made.items():
        now: Any = params
        for name in section.split("."):
            now = now.get(name, {}) if isinstance(now, dict) else {}
        found += [
            f"{store.path} was made with {section}.{key} {value}, {FILE} has {now[key]}: run dvc repro"
            for key, value in values.items()
            if key in now and now[key] != value
        ]
    return found


def check(store: Store, params: dict[str, Any]) -> Store:
    """Return `store`; raise PipelineError where it was made with other parameters than `params` has."""
    found = differences(store, params)
    if found:
        raise PipelineError("\n".join(found))
    return store
