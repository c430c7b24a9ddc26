"""How long trainings took on this machine: kept beside the project's outputs, as no output may know it.

`logs/trainings.csv` has a row for each training that ran here, none for one that was restored.
"""

import csv
import hashlib
from pathlib import Path

from pipeline.files import project, read_csv

FILE = Path("logs/trainings.csv")
COLUMNS = ("model_md5", "seconds")


def note(model: Path, seconds: float) -> None:
    """Note that the training which gave the file `model` took so many seconds."""
    path = project() / FILE
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        writer.writerow([hashlib.md5(model.read_bytes()).hexdigest(), f"{seconds:.1f}"])


def seconds() -> dict[str, float]:
    """Return how long each training took that ran here, by the md5 of its model, as dvc.lock has it."""
    path = project() / FILE
    return {row["model_md5"]: float(row["seconds"]) for row in read_csv(path)} if path.exists() else {}
