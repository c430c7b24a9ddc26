"""How long each training took on this machine, and how fast the exported models are on it.

No output may depend on the machine, so these times are in `logs/`, which is not an output. There is a row for
each training and each export that ran here, and none for one that was restored.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.params import project
from pipeline.records import Md5, Name, Number, TableFile


class Training(NamedTuple):
    """One row of trainings.csv."""

    model_md5: Md5
    seconds: Number


class Speed(NamedTuple):
    """One row of exports.csv."""

    model_md5: Md5
    format: Name
    median_ms: Number
    p95_ms: Number
    clips_per_second: Number


REMEDY = "correct it, or delete it: it has only times"
TRAININGS = Path("logs/trainings.csv")
EXPORTS = Path("logs/exports.csv")
TABLES: dict[Path, TableFile[Any]] = {
    TRAININGS: TableFile(Training, may_be_empty=True, remedy=REMEDY),
    EXPORTS: TableFile(Speed, may_be_empty=True, remedy=REMEDY),
}
SPEEDS = ("median_ms", "p95_ms", "clips_per_second")


def note(model: Path, seconds: float) -> None:
    """Record that the training that wrote the file `model` took `seconds`."""
    _append(TRAININGS, [(_md5(model), f"{seconds:.1f}")])


def seconds() -> dict[str, float]:
    """Return how many seconds each training here took, by the md5 of its model, as in dvc.lock."""
    return {row.model_md5: row.seconds for row in _rows(TRAININGS)}


def note_speeds(model: Path, speeds: Mapping[str, Sequence[float]]) -> None:
    """Record the speeds of the formats to which the file `model` was exported, in the order of `SPEEDS`."""
    rows = [(_md5(model), name, *(f"{value:.4g}" for value in speed)) for name, speed in speeds.items()]
    _append(EXPORTS, rows)


def speeds() -> dict[str, dict[str, dict[str, float]]]:
    """Return the latest speeds of exports here: by the md5 of the model, by format, and by `SPEEDS`."""
    latest: dict[str, dict[str, dict[str, float]]] = {}
    for row in _rows(EXPORTS):
        values = {name: getattr(row, name) for name in SPEEDS}
        latest.setdefault(row.model_md5, {})[row.format] = values
    return latest


def _append(file: Path, rows: Iterable[Sequence[str]]) -> None:
    path = project() / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        if not out.tell():
            writer.writerow(TABLES[file].header)
        writer.writerows(rows)


def _rows(file: Path) -> list[Any]:
    path = project() / file
    return TABLES[file].read(path) if path.exists() else []


def _md5(model: Path) -> str:
    return hashlib.md5(model.read_bytes()).hexdigest()
