"""data/clips.csv, data/tables.zip → data/split.csv: give each clip its label in the task, and its split."""

from functools import partial
from pathlib import Path

from pipeline import params
from pipeline.corpus import clips, members, splits, tables
from pipeline.corpus.splits import Split
from pipeline.corpus.task import Task
from pipeline.errors import run

TABLES = Path("data/tables.zip")


def main() -> None:
    """Split the clips, and print how many clips of each label are in each split."""
    rows = clips.read(Path("data/clips.csv"))
    settings = params.read("split", Split)
    task = params.read("task", Task)
    lists, others = splits.read_lists(rows, settings, partial(tables.read, TABLES))
    for message in others:
        print(message)
    joined = splits.split(rows, settings, task, params.read("clips.recordings", list[str]), lists)
    members.write(Path("data/split.csv"), joined)
    print(splits.format_table(rows, joined))
    for message in splits.warnings(rows, joined, settings, task):
        print(message)


if __name__ == "__main__":
    run(main)
