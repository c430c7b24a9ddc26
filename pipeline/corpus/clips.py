"""Find clips, read their speakers from their names, and write and read clips.csv."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from pydantic import field_validator

from pipeline.errors import PipelineError
from pipeline.files import read_csv, write_csv
from pipeline.params import Section


class Naming(Section):
    """The section `clips`: how to read a clip's speaker from its file name."""

    speaker: str  # a regular expression, whose one group is the speaker

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
    """One row of clips.csv: a clip as it was recorded. Only `clips.speaker` can change it."""

    clip: str  # the id, <label>/<file>
    label: str
    speaker: str
    sample_rate: int  # Hz
    samples: int  # per channel
    md5: str  # of all samples, channels interleaved, as int16 if the file has 16 bits, else as float32


def find(folder: Path) -> list[str]:
    """Return the ids (`<label>/<file>`) of the clips in `folder`, sorted by code point.

    Raises PipelineError if there are no clips, if a label's folder contains something besides files, or if a
    name is not UTF-8.
    """
    advice = "expected <label>/<file>: run dvc repro extract"
    if not folder.is_dir():
        raise PipelineError(f"{folder} is missing: {advice}")
    ids = []
    for label in os.scandir(folder):
        for file in os.scandir(label) if label.is_dir() else ():
            if not file.is_file():
                raise PipelineError(f"{file.path} is not a file: {advice}")
            ids.append(f"{label.name}/{file.name}")
    if not ids:
        raise PipelineError(f"{folder} contains no clips: {advice}")
    for clip in ids:
        if not _is_text(clip):
            raise PipelineError(f"{folder}/{clip!a} must have a name in UTF-8: rename it in the archive")
    return sorted(ids)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # in Python, bytes of a name that are not UTF-8 are surrogates
        return False
    return True


def speaker(clip: str, naming: Naming) -> str:
    """Return the speaker in the clip's file name, or the clip's id if `naming` finds none there."""
    match = re.search(naming.speaker, clip.partition("/")[2])
    return (match and match[1]) or clip


def write(path: Path, clips: list[Clip]) -> None:
    """Write clips.csv."""
    write_csv(path, list(Clip._fields), clips)


def read(path: Path) -> list[Clip]:
    """Return the rows of clips.csv. Raises PipelineError if it is missing."""
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
