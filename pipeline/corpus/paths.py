"""Tell from a path what a file is: a clip, or a table."""

from collections.abc import Sequence
from pathlib import PurePosixPath

AUDIO_SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".w64", ".wav", ".wave",
)  # fmt: skip
# Tables and lists, which may say what the clips are.
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")


def is_clip(parts: Sequence[str]) -> bool:
    """Return whether the path with these `parts` has an audio suffix and is not hidden."""
    return _is_visible(parts) and PurePosixPath(parts[-1]).suffix.lower() in AUDIO_SUFFIXES


def is_table(parts: Sequence[str]) -> bool:
    """Return whether the path with these `parts` ends in .csv, .tsv or .txt and is not hidden."""
    return _is_visible(parts) and PurePosixPath(parts[-1]).suffix.lower() in TABLE_SUFFIXES


def _is_visible(parts: Sequence[str]) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)
