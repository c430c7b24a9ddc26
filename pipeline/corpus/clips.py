"""Find clips, read what they are from their paths or from a table, and write and read clips.csv."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from pipeline.corpus import recordings
from pipeline.corpus.headers import SAMPLE_RATES
from pipeline.corpus.paths import is_clip, kinds
from pipeline.corpus.stream import UNKNOWN_LENGTH
from pipeline.errors import PipelineError
from pipeline.params import Section, Text, shown
from pipeline.records import Md5, Name, TableFile, again

# How many paths and labels a message shows.
SHOWN = 3
LABELS_SHOWN = 12
# The label of noise in many archives. It is set even for archives without noise.
USUAL_RECORDINGS = "_background_noise_"


class Table(Section):
    """The section `clips.table`: a table in the archive, and the names of its columns."""

    path: Text | None  # below the archive's top folder; None: there is no table
    file: Text | None  # the column with the end of each clip's path
    label: Text | None
    speaker: Text | None
    split: Text | None

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        columns = {self.file, self.label, self.speaker, self.split} - {None}
        if self.path is None and columns:
            raise ValueError(f"must have a path, because it has the columns {', '.join(map(str, columns))}")
        if self.path is not None and self.file is None:
            raise ValueError("must have file, the name of the column with the clips' paths, but file is null")
        return self


class Naming(Section):
    """The section `clips`: how to read a clip's label, speaker and split.

    A pattern is a regular expression that may match anywhere in the clip's path. A column of the table is
    used in its place, if it is set.
    """

    label: Text
    speaker: Text | None
    split: Text | None
    table: Table
    # Labels of long recordings, which are cut into pieces.
    recordings: list[Text] = Field(max_length=1000)

    @field_validator("label", "speaker", "split")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        try:
            groups = 1 if pattern is None else re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"must be a regular expression, is {shown(pattern)}: {error}") from None
        if groups != 1:
            raise ValueError(f"must have one group (...), has {groups}: {shown(pattern)}")
        return pattern


class Origin(NamedTuple):
    """A clip's label, speaker and split, as read from its path or from the table."""

    label: str
    speaker: str  # the clip's id if nobody says who speaks
    given_split: str  # "" if nobody says


class Origins(NamedTuple):
    """The clips of an archive, by their ids, and how the table fits them."""

    clips: dict[str, Origin]
    not_in_table: list[str]  # ids of clips that are left out
    without_file: list[str]  # entries of the table whose file is not in the archive


class Clip(NamedTuple):
    """One row of clips.csv: a clip as it was recorded. Nothing in `task` or `split` can change it."""

    clip: Name  # the id
    label: Name
    speaker: Name
    given_split: str
    sample_rate: Annotated[int, Field(ge=SAMPLE_RATES[0], le=SAMPLE_RATES[-1])]  # Hz
    samples: Annotated[int, Field(ge=1, le=UNKNOWN_LENGTH)]  # per channel
    md5: Md5  # of all samples, channels interleaved, as int16 if the file has 16 bits, else as float32


class Reject(NamedTuple):
    """One row of rejects.csv: a clip that is left out, or that is taken although it is cut short."""

    clip: Name  # the id
    reason: str
    taken: bool


TABLE = TableFile(Clip, key=("clip",), is_sorted=True)
REJECTS = TableFile(Reject, key=("clip",), is_sorted=True, may_be_empty=True)


def find(folder: Path) -> list[str]:
    """Return the ids of the clips in `folder`, their paths in it, sorted by code point.

    Raises PipelineError if there are no clips, if one is no file, or if a name is not UTF-8.
    """
    advice = "run dvc repro extract"
    if not folder.is_dir():
        raise PipelineError(f"{folder} is missing: {advice}")
    ids = []
    for place, _, names in os.walk(folder, onerror=_raise):
        parts = Path(place).relative_to(folder).parts
        for name in names:
            if is_clip((*parts, name)):
                if not Path(place, name).is_file():
                    raise PipelineError(f"{place}/{name} is not a file: {advice}")
                ids.append("/".join((*parts, name)))
    if not ids:
        raise PipelineError(f"{folder} contains no clips: {advice}")
    for clip in ids:
        if not _is_text(clip):
            raise PipelineError(f"{folder}/{clip!a} must have a name in UTF-8: rename it in the archive")
    return sorted(ids)


def _raise(error: OSError) -> None:
    raise error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # in Python, bytes of a name that are not UTF-8 are surrogates
        return False
    return True


def origins(
    ids: Sequence[str],
    naming: Naming,
    read_table: Callable[[str], bytes],
    left_out: Sequence[str],
) -> Origins:
    """Return label, speaker and given split of the clips with these `ids`.

    A file in a folder called like one of `naming.recordings` has that label, whatever the patterns and the
    table say. If there is a table, other clips that are not in it are left out.

    Args:
        ids: paths below the archive's top folder.
        naming: the section `clips` of params.yaml.
        read_table: returns the content of the table at a path below the top folder. It raises PipelineError
            if there is none.
        left_out: paths of the archive's other files, and of its empty folders, which end in a slash.

    Raises:
        PipelineError: a clip has no label, or a label in `left_out` has no clip, or there is no table where
            `naming` expects it, or the table has no such columns, does not name one clip each, or names no
            clip at all.
    """
    entries: dict[str, dict[str, str]] = {}
    without_file: list[str] = []
    table = naming.table
    if table.path is not None:
        entries, without_file = _match(ids, table, read_table(table.path))
        if not entries and not without_file:
            raise PipelineError(f"params.yaml: {table.path} has no rows: choose another clips.table.path")
        if not entries:
            raise PipelineError(
                f"params.yaml: no clip is in {table.path}, whose column {table.file} has, for example,"
                f" {', '.join(without_file[:SHOWN])}; clips are {', '.join(ids[:SHOWN])}:"
                " correct clips.table.file"
            )
    noise = {clip: folder for clip in ids if (folder := _noise(clip, naming))}
    known = [clip for clip in ids if table.path is None or clip in entries or clip in noise]

    def read(name: str, clip: str) -> str:
        column = getattr(table, name)
        return (
            entries.get(clip, {}).get(column, "").strip()
            if column is not None
            else _of_path(name, clip, naming)
        )

    labels = {clip: noise.get(clip) or read("label", clip) for clip in known}
    _check_labels(labels, naming)
    others = {read("label", clip) for clip in ids if clip not in labels}
    _check_left_out(left_out, {*labels.values(), *others}, naming)
    return Origins(
        {
            clip: Origin(label, read("speaker", clip) or clip, read("split", clip))
            for clip, label in labels.items()
        },
        not_in_table=[clip for clip in ids if clip not in labels],
        without_file=without_file,
    )


def _noise(clip: str, naming: Naming) -> str | None:
    """Return the label of noise that a folder of the clip's path is, or None. The innermost folder counts."""
    folders = [folder for folder in PurePosixPath(clip).parts[:-1] if folder in naming.recordings]
    return folders[-1] if folders else None


def _of_path(name: str, clip: str, naming: Naming) -> str:
    pattern = getattr(naming, name)
    match = re.search(pattern, clip) if pattern is not None else None
    return (match and match[1]) or ""


def check(path: Path, clips: Iterable[Clip], naming: Naming) -> None:
    """Raise PipelineError if one of `clips`, the rows of clips.csv, is not what its path says.

    Values from a table of the archive are not compared.
    """
    for clip in clips:
        file = recordings.file(clip.clip)
        for name, found in (("label", clip.label), ("speaker", clip.speaker), ("split", clip.given_split)):
            noise = _noise(file, naming) if name == "label" else None
            if getattr(naming.table, name) is not None and not noise:
                continue
            expected = noise or _of_path(name, file, naming) or (file if name == "speaker" else "")
            if found != expected:
                raise PipelineError(
                    f"{path}: the {name} of {clip.clip} is {found!r}, but {expected!r} by its path and"
                    f" params.yaml: clips.{name}: {again(path)}"
                )


def _check_left_out(left_out: Sequence[str], labels: set[str], naming: Naming) -> None:
    """Raise PipelineError if a file that is not a clip, or an empty folder, has a label beside `labels`."""
    if naming.table.label is not None:
        return
    missing: dict[str, list[str]] = {}
    for path in left_out:
        file = f"{path}file" if path.endswith("/") else path
        label = _noise(file, naming) or _of_path("label", file, naming)
        # An expression may also take the name of a file beside the labels' folders, such as README.md.
        if label and label not in labels and label != PurePosixPath(file).name:
            missing.setdefault(label, []).append(path)
    if missing:
        lines = [
            f"\n  {label}: {kinds(paths)}, such as {paths[0]}"
            for label, paths in sorted(missing.items())[:LABELS_SHOWN]
        ]
        raise PipelineError(
            f"params.yaml: clips.label, '{naming.label}', also finds labels without a clip. None of their"
            f" files has the suffix of an audio file:{''.join(lines)}\nConvert the files to WAV or FLAC and"
            " pack the archive again. If they are no clips, add the names of the folders or files to"
            " extract.exclude"
        )


def _check_labels(labels: dict[str, str], naming: Naming) -> None:
    unlabelled = [clip for clip, label in labels.items() if not label]
    if not unlabelled:
        return
    column = naming.table.label
    rule = f"clips.label, '{naming.label}'," if column is None else f"the column {column} of the table"
    key = "clips.label" if column is None else "clips.table.label, or the table"
    other_labels = sorted(set(labels.values()) - {""})
    shown = ", ".join(other_labels[:LABELS_SHOWN]) + (", …" if len(other_labels) > LABELS_SHOWN else "")
    others = (
        f"In the others it finds {len(other_labels)} labels: {shown}"
        if other_labels
        else "It finds no label at all"
    )
    paths = "".join(f"\n  {clip}" for clip in unlabelled[:SHOWN])
    raise PipelineError(
        f"params.yaml: {rule} gives no label to {len(unlabelled)} of {len(labels)} clips, such as{paths}\n"
        f"{others}: correct {key}, or leave these files out with extract.exclude. python -m pipeline check"
        " --clips tries it at once"
    )


def _match(ids: Iterable[str], table: Table, content: bytes) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the table's row of each clip that it names, and the entries that name no clip."""
    rows = _rows(content, table)
    by_name: dict[str, list[str]] = {}
    for clip in ids:
        by_name.setdefault(PurePosixPath(clip).name, []).append(clip)
    matched: dict[str, dict[str, str]] = {}
    unmatched = []
    for row in rows:
        entry = (row[str(table.file)] or "").strip().replace("\\", "/").removeprefix("./")
        same_name = by_name.get(PurePosixPath(entry).name, [])
        fitting = [
            clip for clip in same_name if f"/{clip}".endswith(f"/{entry}") or f"/{entry}".endswith(f"/{clip}")
        ]
        if entry in fitting:
            fitting = [entry]
        if not fitting:
            unmatched.append(entry)
            continue
        if len(fitting) > 1 or fitting[0] in matched:
            if len(fitting) > 1:
                problem = f"fits {fitting[0]} and {fitting[1]}"
                advice = "choose a column with more of the path under clips.table.file, or leave out a folder"
                advice += " with extract.exclude"
            else:
                problem, advice = "is there twice", "remove a row of the table"
            raise PipelineError(
                f"params.yaml: {entry} in {table.path} {problem}, expected one row for each clip: {advice}"
            )
        matched[fitting[0]] = row
    return matched, unmatched


def _rows(content: bytes, table: Table) -> list[dict[str, str]]:
    name = str(table.path)
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{name} is not a table in UTF-8: {error}: correct it in the archive") from None
    if name.lower().endswith(".tsv"):
        # Such tables, for example Common Voice's, don't quote.
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
    else:
        reader = csv.DictReader(lines, restval="")
    columns = list(reader.fieldnames or [])
    if not columns:
        raise PipelineError(f"params.yaml: clips.table.path is {name}, which is empty: choose another table")
    for key in ("file", "label", "speaker", "split"):
        column = getattr(table, key)
        if column is not None and column not in columns:
            advice = "correct it"
            if len(columns) == 1 and {";", "\t"} & {*columns[0]}:
                advice = "separate the columns of the table with commas, or call it .tsv and use tabs"
            raise PipelineError(
                f"params.yaml: clips.table.{key} must be one of the columns of {name}, {', '.join(columns)},"
                f" is {column!r}: {advice}"
            )
    try:
        return list(reader)
    except csv.Error as error:
        raise PipelineError(
            f"{name} is damaged at line {reader.line_num}: {error}: correct it in the archive"
        ) from None


def differences(origins: Origins, naming: Naming) -> list[str]:
    """Return a message for each way in which the clips are not what `naming` leads one to expect.

    Clips may be left out, the table may have files that the archive lacks, and there may be no recordings of
    a label that is named.
    """
    table, labels = naming.table, {origin.label for origin in origins.clips.values()}
    messages = [
        f"no clip has the label {label}, which is in params.yaml: clips.recordings"
        for label in naming.recordings
        if label not in labels | {USUAL_RECORDINGS}
    ]
    for ids, problem in (
        (origins.not_in_table, f"left out because they are not in {table.path}: {{}} clips, such as"),
        (origins.without_file, f"in {table.path}, but not in the archive: {{}} files, such as"),
    ):
        if ids:
            messages.append(f"{problem.format(f'{len(ids):,}')} {ids[0]}")
    return messages


def read_list(content: bytes) -> set[str]:
    """Return the ids in a list, which has one on each line."""
    text = content.decode("utf-8-sig", errors="replace")
    return {line.strip().replace("\\", "/").removeprefix("./") for line in text.splitlines()} - {""}


def write(path: Path, clips: list[Clip]) -> None:
    """Write clips.csv."""
    TABLE.write(path, clips)


def read(path: Path, *, ids: Sequence[str] | None = None) -> list[Clip]:
    """Return the rows of clips.csv, whose clips must be those with these `ids`, if they are given.

    Raises PipelineError if it is missing or damaged, or has other clips.
    """
    clips = TABLE.read(path)
    if ids is None or [clip.clip for clip in clips] == list(ids):
        return clips
    others = sorted({clip.clip for clip in clips} ^ set(ids))
    raise PipelineError(
        f"{path} has {len(clips)} clips, and the store {len(ids)}; {others[0]} is only in the"
        f" {'store' if others[0] in ids else 'table'}: {again(path)}"
    )
