"""A clip's id, label and speaker; clips.csv."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from pydantic import field_validator

from pipeline.errors import PipelineError
from pipeline.files import read_csv, write_csv
from pipeline.params import Section


class Naming(Section):
    """`clips`: what a file's name says of its clip."""

    speaker: str

    @field_validator("speaker")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"must be a regular expression, is {pattern!r}: {error}") from None
        if groups != 1:
            raise ValueError(f"must have one group (...) around the speaker, has {groups}: {pattern!r}")
        return pattern


class Clip(NamedTuple):
    """One row of clips.csv: a clip as it was recorded, whatever is made of it later."""

    clip: str  # its id, <label>/<file>
    label: str
    speaker: str
    sample_rate: int  # Hz
    samples: int
    md5: str  # of the samples, float32, all channels


def find(folder: Path) -> list[str]:
    """Return the ids (`<label>/<file>`) of the clips in `folder`, sorted by code point.

    Raises PipelineError where there is none.
    """
    labels = [entry for entry in os.scandir(folder) if entry.is_dir()]
    ids = sorted(f"{label.name}/{file.name}" for label in labels for file in os.scandir(label))
    if not ids:
        raise PipelineError(f"{folder} holds no clip: expected <label>/<file>: run dvc repro extract")
    return ids


def speaker(clip: str, naming: Naming) -> str:
    """Return the speaker that the file's name tells, or the clip's id where it tells none."""
    match = re.search(naming.speaker, clip.partition("/")[2])
    return (match and match[1]) or clip


def write(path: Path, clips: list[Clip]) -> None:
    """Write clips.csv."""
    write_csv(path, list(Clip._fields), clips)


def read(path: Path) -> list[Clip]:
    """Return the rows of clips.csv."""
    return [
        Clip(
            clip=row["clip"],
            label=row["label"],
            speaker=row["speaker"],
            sample_rate=int(row["sample_rate"]),
            samples=int(row["samples"]),
            md5=row["md5"],
        )
        for row in read_csv(path)
    ]
