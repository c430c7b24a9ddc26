"""Cut long recordings, such as those of background noise, into consecutive pieces, which are clips too.

The piece with the id `noise/tap.wav@12` begins 12 durations after the start of `noise/tap.wav`. A remainder
shorter than a piece is left out, but a recording shorter than a piece is one piece.
"""

import io
import mmap
import re
from pathlib import Path
from typing import NamedTuple

import soundfile

from pipeline.corpus.headers import SAMPLE_RATES, Truncated, cut_short
from pipeline.corpus.stream import FRAMES_AT_A_TIME, UNKNOWN_LENGTH, Stream

PIECE = re.compile(r"(?P<file>.+\.\w+)@(?P<number>\d+)")


class Piece(NamedTuple):
    """A piece of a recording."""

    file: str
    number: int  # from 0


def piece(clip: str) -> Piece | None:
    """Return the piece with the id `clip`, or None if the clip is a whole file."""
    match = PIECE.fullmatch(clip)
    return Piece(match["file"], int(match["number"])) if match else None


def file(clip: str) -> str:
    """Return the file that contains the clip: its id, or the recording whose piece it is."""
    cut = piece(clip)
    return clip if cut is None else cut.file


def pieces(folder: Path, recording: str, duration: float, truncated: Truncated = "reject") -> list[str]:
    """Return the ids of the pieces of `recording`, a file in `folder`, each `duration` seconds long.

    A file that cannot be decoded is one piece, so that the stage that decodes it names it. `truncated` says
    whether a file that is cut short is one of these.
    """
    path = folder / recording
    opened = _open(path, truncated)
    if opened is None:
        return [f"{recording}@0"]
    with opened:
        count = _length(path, opened) // _frames(duration, opened.samplerate)
    return [f"{recording}@{number}" for number in range(max(1, count))]


def _length(path: Path, opened: soundfile.SoundFile) -> int:
    """Return the number of samples per channel of the recording at `path`, or 0 if it is damaged."""
    length: int = opened.frames
    if length * opened.channels <= path.stat().st_size:
        return length
    # The header of a compressed file may promise any length, such as years.
    with Stream(path) as stream:
        try:
            return sum(map(len, stream.parts(FRAMES_AT_A_TIME, "int16")))
        except soundfile.LibsndfileError:
            return 0


def content(folder: Path, clip: str, duration: float, truncated: Truncated = "reject") -> bytes:
    """Return the bytes of the clip's file in `folder`, or those of an AU file of the piece that it is.

    If decoding the file fails, return its bytes for the piece too, so that decoding these says what is wrong.
    """
    cut = piece(clip)
    if cut is None:
        return (folder / clip).read_bytes()
    path = folder / cut.file
    opened = _open(path, truncated)
    if opened is None:
        return path.read_bytes()
    with opened:
        frames = _frames(duration, opened.samplerate)
        dtype = "int16" if opened.subtype == "PCM_16" else "float32"
        try:
            opened.seek(cut.number * frames)
            samples, rate = opened.read(frames, dtype=dtype), opened.samplerate
        except soundfile.LibsndfileError:
            return path.read_bytes()
    cut_out = io.BytesIO()
    # AU, because libsndfile writes the time into a WAV file of floats.
    soundfile.write(cut_out, samples, rate, format="AU", subtype="PCM_16" if dtype == "int16" else "FLOAT")
    return cut_out.getvalue()


def lacking(path: Path) -> str | None:
    """Return what the file at `path` lacks of what its header promises, as `headers.cut_short` does."""
    if not path.stat().st_size:  # which cannot be mapped
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return cut_short(mapped)


def _open(path: Path, truncated: Truncated) -> soundfile.SoundFile | None:
    """Return the recording at `path`, opened, or None if `audio.decode` would not decode it."""
    if truncated == "reject" and lacking(path):
        return None
    try:
        opened = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        return None
    if opened.samplerate in SAMPLE_RATES and opened.frames < UNKNOWN_LENGTH:
        return opened
    opened.close()
    return None


def _frames(duration: float, sample_rate: int) -> int:
    return max(1, round(duration * sample_rate))
