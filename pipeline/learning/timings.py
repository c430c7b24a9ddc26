"""How long each training took on this machine, and how fast the exported models are on it.

No output may depend on the machine, so these times are in `logs/`, which is not an output. There is a row for
each training and each export that ran here, and none for one that was restored.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.files import read_csv
from pipeline.params import project

TRAININGS = Path("logs/trainings.csv")
EXPORTS = Path("logs/exports.csv")
SPEEDS = ("median_ms", "p95_ms", "clips_per_second")


def note(model: Path, seconds: float) -> None:
    """Record that the training that wrote the file `model` took `seconds`."""
    _append(TRAININGS, ("model_md5", "seconds"), [(_md5(model), f"{seconds:.1f}")])


def seconds() -> dict[str, float]:
    """Return how many seconds each training here took, by the md5 of its model, as in dvc.lock."""
    return {row["model_md5"]: float(row["seconds"]) for row in _rows(TRAININGS)}


def note_speeds(model: Path, speeds: Mapping[str, Sequence[float]]) -> None:
    """Record the speeds of the formats to which the file `model` was exported, in the order of `SPEEDS`."""
    rows = [(_md5(model), name, *(f"{value:.4g}" for value in speed)) for name, speed in speeds.items()]
    _append(EXPORTS, ("model_md5", "format", *SPEEDS), rows)


def speeds() -> dict[str, dict[str, dict[str, float]]]:
    """Return the latest speeds of exports here: by the md5 of the model, by format, and by `SPEEDS`."""
    latest: dict[str, dict[str, dict[str, float]]] = {}
    for row in _rows(EXPORTS):
        values = {name: float(row[name]) for name in SPEEDS}
        latest.setdefault(row["model_md5"], {})[row["format"]] = values
    return latest


def _append(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path = project() / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        if not out.tell():
            writer.writerow(header)
        writer.writerows(rows)


def _rows(file: Path) -> list[dict[str, str]]:
    path = project() / file
    return read_csv(path) if path.exists() else []


def _md5(model: Path) -> str:
    return hashlib.md5(model.read_bytes()).hexdigest()
