"""How long each training took on this machine.

No output may depend on the machine, so the times are in `logs/trainings.csv`, which is not an output. It has
one row for each training that ran here, and none for a training that was restored.
"""

import csv
import hashlib
from pathlib import Path

from pipeline.files import read_csv
from pipeline.params import project

FILE = Path("logs/trainings.csv")
COLUMNS = ("model_md5", "seconds")


def note(model: Path, seconds: float) -> None:
    """Record that the training that wrote the file `model` took `seconds`."""
    path = project() / FILE
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        writer.writerow([hashlib.md5(model.read_bytes()).hexdigest(), f"{seconds:.1f}"])


def seconds() -> dict[str, float]:
    """Return how many seconds each training here took, by the md5 of its model, as in dvc.lock."""
    path = project() / FILE
    return {row["model_md5"]: float(row["seconds"]) for row in read_csv(path)} if path.exists() else {}
