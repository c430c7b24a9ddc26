"""List the clips and tables of an archive, and unpack them safely."""

import errno
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import Field

from pipeline.corpus import tables
from pipeline.corpus.containers import Entry, entries
from pipeline.corpus.paths import AUDIO_SUFFIXES, is_clip, is_hidden_clip, is_table, is_visible, kinds
from pipeline.errors import PipelineError
from pipeline.files import atomic_write, naming
from pipeline.needs import need_disk
from pipeline.params import Section, Text
from pipeline.progress import Progress

# Errors of a file system that refuses a name: it is too long, has other characters, or is taken.
REFUSED = (
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
)
# How many folders a message shows.
SHOWN = 5

Parts = tuple[str, ...]


class Unpacking(Section):
    """The section `extract`: which folders to leave out, and how large an archive may become."""

    exclude: list[Text] = Field(max_length=10_000)  # names of folders and files
    max_bytes: int = Field(ge=1, le=10**15)  # of all files, unpacked


@dataclass(frozen=True)
class Contents:
    """The files of an archive, by their paths below the top folder.

    If one folder contains all clips, each in a folder of its own in it, that top folder is not a part of the
    paths. Of a table in it and one beside it, whose paths are then equal, only the first is used. Hidden
    files, and files in an excluded folder, are not here, except for `hidden`.
    """

    clips: dict[str, Entry]
    tables: dict[str, Entry]  # files that end in .csv, .tsv or .txt
    left_out: list[str]  # other files, and folders that are empty, which end in a slash; sorted
    hidden: list[str]  # audio files that are hidden, in the order of the archive

    def read_table(self, name: str) -> bytes:
        """Return the content of the table `name`. Raises PipelineError if the archive has no such file."""
        with tables.find(name, self.tables).open() as file:
            return file.read()

    def left_out_text(self) -> str | None:
        """Return a line that counts the files that are left out and names the folders without clips.

        For each such folder, it says what files it has. If there is nothing to say, return None.
        """
        texts = [f"left out: {kinds(self.left_out)}"] if self.left_out else []
        folders = self._without_clips()
        if folders:
            listed = [f"{folder} ({kinds(paths)})" for folder, paths in folders[:SHOWN]]
            more = [f"… ({len(folders):,} in all)"] if len(folders) > SHOWN else []
            texts.append(f"folders without clips: {', '.join([*listed, *more])}")
        return "; ".join([*texts, *self.hidden_text()]) or None

    def hidden_text(self) -> list[str]:
        """Return a text that counts the hidden audio files, or nothing if there are none."""
        return [f"hidden: {kinds(self.hidden)}, such as {self.hidden[0]}"] if self.hidden else []

    def _without_clips(self) -> list[tuple[str, list[str]]]:
        """Return the folders without clips, which end in a slash, and the paths of what they have."""
        with_clips = {folder for clip in self.clips for folder in PurePosixPath(clip).parents}
        outermost: dict[PurePosixPath, list[str]] = {}
        for path in sorted([*self.left_out, *self.tables]):
            parents = reversed(PurePosixPath(f"{path}x").parents)
            folder = next((parent for parent in parents if parent not in with_clips), None)
            if folder is not None:
                outermost.setdefault(folder, []).append(path)
        # If all is in a folder of the outermost one, that is named: `outer/inner/`.
        return [
            (f"{posixpath.commonpath([posixpath.dirname(path) for path in paths])}/", paths)
            for paths in outermost.values()
        ]


@contextmanager
def opened(path: Path, unpacking: Unpacking) -> Iterator[Contents]:
    """Yield what the archive at `path` contains. Its files can be read until the end of the block.

    Raises:
        PipelineError: as `pipeline.corpus.containers.entries`. An entry is neither a file nor a folder, or
            would be written outside a folder. The files have more than `max_bytes`. A clip appears twice, or
            there are no clips.
    """
    with entries(path) as found:
        yield _contents(path, list(_checked(path, found, unpacking.max_bytes)), unpacking.exclude)


def _checked(path: Path, found: Iterable[Entry], max_bytes: int) -> Iterator[tuple[Parts, Entry]]:
    """Yield the entries with the parts of their names. Raises PipelineError if one is unsafe."""
    total = 0
    for entry in found:
        parts = _safe_parts(path, entry)
        total += entry.size
        if total > max_bytes:
            raise PipelineError(
                f"{path} unpacks to over {max_bytes:,} bytes, at {entry.name!r}: if you expect that many,"
                " raise params.yaml: extract.max_bytes"
            )
        yield parts, entry


def _contents(path: Path, found: list[tuple[Parts, Entry]], exclude: list[str]) -> Contents:
    wanted = [(parts, entry) for parts, entry in found if entry.kind == "file" and not {*parts} & {*exclude}]
    files: dict[Parts, Entry] = {}
    for parts, entry in wanted:
        if is_visible(parts):
            if parts in files and is_clip(parts):
                raise PipelineError(
                    f"{path} contains {entry.name!r} twice: pack it again, with each file once"
                )
            files[parts] = entry
    clips = [parts for parts in files if is_clip(parts)]
    empty = _empty_folders(found, exclude)
    top = clips[0][:1] if clips and all(len(p) > 2 and p[0] == clips[0][0] for p in clips) else ()
    left_out = {_below(top, parts) for parts in files if not is_clip(parts) and not is_table(parts)}
    contents = Contents(
        {},
        {},
        sorted(left_out | {f"{_below(top, parts)}/" for parts in empty}),
        [_below(top, parts) for parts, _ in wanted if is_hidden_clip(parts)],
    )
    for parts in sorted(files, key=lambda parts: parts[:1] != top):
        if is_clip(parts):
            contents.clips.setdefault(_below(top, parts), files[parts])
        elif is_table(parts):
            contents.tables.setdefault(_below(top, parts), files[parts])
    if not clips:
        others = [f", only {kinds(contents.left_out)}"] if contents.left_out else []
        others += [f"; {text}" for text in contents.hidden_text()]
        raise PipelineError(
            f"{path} contains no clips{''.join(others)}, expected audio files"
            f" ({', '.join(AUDIO_SUFFIXES)}): pack the archive again"
        )
    return contents


def _empty_folders(found: list[tuple[Parts, Entry]], exclude: list[str]) -> set[Parts]:
    """Return the visible folders that contain nothing, or only hidden files. Excluded ones are left out."""
    folders, occupied = set(), set()
    for parts, entry in found:
        is_folder = entry.kind == "folder"
        parents = {parts[:depth] for depth in range(1, len(parts) + is_folder)}
        folders |= parents
        if is_visible(parts):
            occupied |= parents - {parts}
    visible = {parts for parts in folders if is_visible(parts) and not {*parts} & {*exclude}}
    return visible - occupied


def _below(top: Parts, parts: Parts) -> str:
    return "/".join(parts[len(top) :] if parts[: len(top)] == top else parts)


def unpack(path: Path, folder: Path, tables_path: Path, unpacking: Unpacking) -> Contents:
    """Write the audio files of the archive at `path` to `folder`; return what the archive contains.

    Their paths in `folder` are those of `Contents`. The tables are written to a zip archive, `tables_path`.

    Raises:
        PipelineError: as `opened`; or the disk has too little space, or cannot have one of the names.
            Nothing is then written.
    """
    with opened(path, unpacking) as contents, atomic_write(folder) as part:
        need_disk(folder, sum(entry.size for entry in contents.clips.values()), "extract")
        with Progress(len(contents.clips), "clips", "extract") as progress:
            for name, entry in contents.clips.items():
                with _named(path, name):
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).touch(exist_ok=False)
                with (
                    naming(folder / name),
                    entry.open() as source,
                    (part / name).open("wb") as file,
                ):
                    shutil.copyfileobj(source, file)
                progress.update(1)
        with naming(tables_path):
            tables.write(tables_path, {name: entry.open for name, entry in contents.tables.items()})
    return contents


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Raise a PipelineError in the block if the file system cannot have the clip's `name`."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        raise PipelineError(
            f"{path}: {name!r} cannot be written: {error.strerror}: rename it in the archive, to a name that"
            " is shorter, or that differs from the others in more than case, or leave it out with"
            " extract.exclude"
        ) from None


def _safe_parts(path: Path, entry: Entry) -> Parts:
    """Return the folders and the file in the entry's name. Raises PipelineError if they are unsafe."""
    pure = PurePosixPath(entry.name.replace("\\", "/"))
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise PipelineError(
            f"{path}: the name {entry.name!a} is not UTF-8: rename the file and pack the archive again"
        ) from None
    drive = re.match(r"[A-Za-z]:", entry.name)
    if pure.is_absolute() or ".." in pure.parts or drive or "\0" in entry.name:
        raise PipelineError(
            f"{path}: {entry.name!r} would be written outside the target folder: pack the archive again, with"
            " relative paths"
        )
    if entry.kind not in ("file", "folder"):
        what = "a link" if entry.kind == "link" else "neither a file nor a folder"
        raise PipelineError(
            f"{path}: {entry.name!r} is {what}, expected only files and folders: pack the archive again"
            " without it"
        )
    return pure.parts or (".",)
