"""Cut long recordings, such as those of background noise, into consecutive pieces, which are clips too.

The piece with the id `noise/tap.wav@12` begins 12 durations after the start of `noise/tap.wav`. A remainder
shorter than a piece is left out, but a recording shorter than a piece is one piece.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

import soundfile

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


def pieces(folder: Path, recording: str, duration: float) -> list[str]:
    """Return the ids of the pieces of `recording`, a file in `folder`, each `duration` seconds long.

    A file that cannot be read is one piece, so that the stage that decodes it names it.
    """
    try:
        info = soundfile.info(str(folder / recording))
    except soundfile.LibsndfileError:
        return [f"{recording}@0"]
    count = info.frames // _frames(duration, info.samplerate)
    return [f"{recording}@{number}" for number in range(max(1, count))]


def content(folder: Path, clip: str, duration: float) -> bytes:
    """Return the bytes of the clip's file in `folder`, or those of an AU file of the piece that it is."""
    cut = piece(clip)
    if cut is None:
        return (folder / clip).read_bytes()
    path = folder / cut.file
    try:
        with soundfile.SoundFile(path) as opened:
            frames = _frames(duration, opened.samplerate)
            dtype = "int16" if opened.subtype == "PCM_16" else "float32"
            opened.seek(cut.number * frames)
            samples, rate = opened.read(frames, dtype=dtype), opened.samplerate
    except soundfile.LibsndfileError:
        return path.read_bytes()  # decoding it says what is wrong
    cut_out = io.BytesIO()
    # AU, because libsndfile writes the time into a WAV file of floats.
    soundfile.write(cut_out, samples, rate, format="AU", subtype="PCM_16" if dtype == "int16" else "FLOAT")
    return cut_out.getvalue()


def _frames(duration: float, sample_rate: int) -> int:
    return max(1, round(duration * sample_rate))
