"""Tell from a path what a file is: a clip, a table, or something else."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.records import Name, TableFile

AUDIO_SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".w64", ".wav", ".wave",
)  # fmt: skip
# Tables and lists, which may say what the clips are.
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
# How many kinds of files a message counts one by one.
COUNTED = 5


class LeftOut(NamedTuple):
    """One row of left_out.csv: a file of the archive that is no clip and no table, or an empty folder."""

    path: Name  # below the top folder; that of a folder ends with a slash


LEFT_OUT = TableFile(LeftOut, key=("path",), is_sorted=True, may_be_empty=True)


def is_clip(parts: Sequence[str]) -> bool:
    """Return whether the path with these `parts` has an audio suffix and is not hidden."""
    return is_visible(parts) and _is_audio(parts)


def is_hidden_clip(parts: Sequence[str]) -> bool:
    """Return whether the path would be that of a clip if it was not hidden.

    macOS adds a file `._a.wav`, without sound, for each `a.wav`. It is not counted.
    """
    is_by_macos = "__MACOSX" in parts or parts[-1].startswith("._")
    return not is_visible(parts) and not is_by_macos and _is_audio(parts)


def _is_audio(parts: Sequence[str]) -> bool:
    return PurePosixPath(parts[-1]).suffix.lower() in AUDIO_SUFFIXES


def is_table(parts: Sequence[str]) -> bool:
    """Return whether the path with these `parts` ends in .csv, .tsv or .txt and is not hidden."""
    return is_visible(parts) and PurePosixPath(parts[-1]).suffix.lower() in TABLE_SUFFIXES


def is_visible(parts: Sequence[str]) -> bool:
    """Return whether neither the file nor its folders are hidden, or were added to the archive by macOS."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def kinds(paths: Iterable[str]) -> str:
    """Return how many of the `paths` have which suffix, such as `30 files .m4a, 1 file without suffix`.

    A path that ends in a slash is an empty folder.
    """
    counts = Counter("/" if path.endswith("/") else PurePosixPath(path).suffix.lower() for path in paths)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    texts = [_counted(suffix, count) for suffix, count in common[:COUNTED]]
    others = sum(count for _, count in common[COUNTED:])
    return ", ".join([*texts, f"{others:,} of other kinds"] if others else texts)


def _counted(suffix: str, count: int) -> str:
    noun, detail = ("empty folder", "") if suffix == "/" else ("file", f" {suffix or 'without suffix'}")
    return f"{count:,} {noun}{'' if count == 1 else 's'}{detail}"
