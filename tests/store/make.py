"""Makes the stores that tests read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import params
from pipeline.store.layout import Rows
from pipeline.store.writer import Known, Work, write


def make_store(
    path: Path, rows: Rows, *, clips: list[str], made: dict[str, Any] | None = None, **more: Any
) -> list[Rows | Known]:
    """Write a store of `rows`; the notes are the rows as they were loaded."""
    return write(
        path,
        Work(partial(_load, rows), _compute),
        range(len(rows)),
        clips=clips,
        row_shape=rows.shape[1:],
        params=made or made_with(path.stem),
        verb="write",
        **{"dtype": "float32", **more},
    )


def made_with(feature: str) -> dict[str, Any]:
    """Return what a store of `feature` says it was made with, where that is what params.yaml has."""
    now = params.load()
    audio = {key: now["audio"][key] for key in ("sample_rate", "duration", "padding")}
    return {"audio": audio, "feature": {"name": feature, "magnitudes": False, **now["features"][feature]}}


def _load(rows: Rows, numbers: Sequence[int]) -> Rows:
    return np.ascontiguousarray(rows[list(numbers)])


def _compute(items: Rows) -> tuple[Rows, list[Rows]]:
    return items, list(items)
