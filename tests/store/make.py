"""Makes the stores that tests read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.features import Feature, Kernel
from pipeline.store.layout import Digests, Rows, Store, describe
from pipeline.store.reader import rows as stored_rows
from pipeline.store.writer import Contents, Verdict, Work, write


def make_store(
    path: Path,
    rows: Rows,
    *,
    clips: list[str],
    params: dict[str, Any] | None = None,
    dtype: str = "float32",
    sources: Digests | None = None,
    previous: Store | None = None,
) -> list[Verdict[Rows]]:
    """Write a store of `rows`. The note of each verdict is the row; a row of NaN is rejected."""
    return write(
        path,
        Contents(clips, rows.shape[1:], dtype, params or current_params(path.stem)),
        Work("write", range(len(rows)), partial(_load, rows), _compute, sources),
        previous=previous,
    )


def make_feature(path: Path, waveforms: Store, feature: Feature, name: str | None = None) -> None:
    """Write the store of a feature of `waveforms`, as the stage `featurize` does."""
    sample_rate = waveforms.params["audio"]["sample_rate"]
    description = feature.description(name or path.stem, sample_rate)
    write(
        path,
        Contents(
            waveforms.clips,
            feature.shape(waveforms.shape[1]),
            feature.dtype,
            {**waveforms.params, "feature": description},
        ),
        Work(
            "featurize",
            range(len(waveforms.clips)),
            partial(_load, np.array(stored_rows(waveforms))),
            partial(_kernel, feature.kernel(sample_rate)),
        ),
    )


def _kernel(kernel: Kernel, items: Rows) -> tuple[Rows, list[Verdict[None]]]:
    return kernel(items), [Verdict()] * len(items)


def change_row(path: Path, row: int) -> None:
    """Flip a bit of a row of the store at `path`, whose checksum stays."""
    store = describe(path)
    place = store.offset + row * stored_rows(store)[0].nbytes
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def current_params(feature: str) -> dict[str, Any]:
    """Return the parameters that a store of `feature` has if params.yaml made it."""
    content = params.load()
    audio = {key: content["audio"][key] for key in ("sample_rate", "duration", "padding")}
    plugin = Feature.restore(content["features"][feature])
    return {"audio": audio, "feature": plugin.description(feature, audio["sample_rate"])}


def _load(rows: Rows, numbers: Sequence[int]) -> Rows:
    return np.ascontiguousarray(rows[list(numbers)])


def _compute(items: Rows) -> tuple[Rows, list[Verdict[Rows]]]:
    rejected = [bool(np.isnan(item).all()) for item in items]
    verdicts: list[Verdict[Rows]] = [
        Verdict(rejected="not a number") if nan else Verdict(note=item)
        for item, nan in zip(items, rejected, strict=True)
    ]
    rows = items.copy()
    rows[rejected] = 0
    return rows, verdicts
