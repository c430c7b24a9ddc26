"""Write and read split.csv: what each clip is in the task."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.records import Name, TableFile, again

SPLITS = ("train", "val", "test")
# The labels of clips that are no word of the task.
UNKNOWN, SILENCE = "_unknown_", "_silence_"


class Member(NamedTuple):
    """One row of split.csv."""

    clip: Name  # the id
    label: str  # in this task; "" if the clip is left out
    split: Annotated[
        str, Field(pattern="^(train|val|test|)$")
    ]  # `train`, `val` or `test`; "" if the clip has no part in the task
    noise: bool  # whether it is a piece of noise, which may be added to other clips of its split


TABLE = TableFile(Member, key=("clip",))


def write(path: Path, members: Iterable[Member]) -> None:
    """Write split.csv."""
    TABLE.write(path, members)


def read(path: Path, *, ids: Sequence[str] | None = None) -> list[Member]:
    """Return the rows of split.csv, in the order of `ids` if they are given: those of a store.

    Raises PipelineError if it is missing or damaged, if it has other clips, or if a label has no clip in one
    of the splits, as after a typing error.
    """
    members = TABLE.read(path)
    if ids is not None:
        by_clip = {member.clip: member for member in members}
        unmatched = sorted(by_clip.keys() ^ set(ids))
        if unmatched:
            raise PipelineError(
                f"{path} and the store contain different clips, such as {unmatched[0]} ({len(unmatched)} in"
                f" all): {again(path)}"
            )
        members = [by_clip[clip] for clip in ids]
    present = {(member.label, member.split) for member in members if member.label}
    labels = sorted({label for label, _ in present})
    if not labels:
        raise PipelineError(f"{path} has no clip with a label: {again(path)}")
    for label in labels:
        splits = [split for split in SPLITS if (label, split) in present]
        if len(splits) < len(SPLITS):
            raise PipelineError(
                f"{path}: the label {label!r} has clips in {' and '.join(splits) or 'no split'}, expected one"
                f" or more in {', '.join(SPLITS)} each: {again(path)}"
            )
    for member in members:
        if (member.label or member.noise) and not member.split:
            raise PipelineError(f"{path}: {member.clip} has no split: {again(path)}")
    return members
