"""Write and read split.csv: what each clip is in the task."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.files import read_csv, write_csv

SPLITS = ("train", "val", "test")
# The labels of clips that are no word of the task.
UNKNOWN, SILENCE = "_unknown_", "_silence_"


class Member(NamedTuple):
    """One row of split.csv."""

    clip: str  # the id
    label: str  # in this task; "" if the clip is left out
    split: str  # `train`, `val` or `test`; "" if the clip has no part in the task
    noise: bool  # whether it is a piece of noise, which may be added to other clips of its split


def write(path: Path, members: Iterable[Member]) -> None:
    """Write split.csv."""
    write_csv(path, list(Member._fields), ((*row[:-1], int(row.noise)) for row in members))


def read(path: Path) -> list[Member]:
    """Return the rows of split.csv. Raises PipelineError if it is missing."""
    return [
        Member(row["clip"], row["label"], row["split"], noise=row["noise"] == "1") for row in read_csv(path)
    ]
