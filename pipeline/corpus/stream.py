"""Read an audio file once, from its start to its end."""

import io
from collections.abc import Iterator
from typing import Any

import soundfile
from numpy.typing import NDArray

FRAMES_AT_A_TIME = 1 << 16
# FLAC has 36 bits for the number of samples. If it is not known, libsndfile returns a larger number.
UNKNOWN_LENGTH = 1 << 36


class Content(io.BytesIO):
    """The bytes of a file. libsndfile may seek to a place before its start, if the header is damaged."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to `offset` and return the new place, which is 0 if the offset is before the start.

        A ValueError would be printed as a traceback, because libsndfile cannot pass it on.
        """
        return super().seek(max(0, offset) if whence == io.SEEK_SET else offset, whence)


class Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read from start to end.

    After each read, SoundFile seeks to the place where it already is. In an MP3, that damages the next frame.
    """

    def seekable(self) -> bool:
        """Return False, so that SoundFile does not seek."""
        return False

    def parts(self, frames: int, dtype: str) -> Iterator[NDArray[Any]]:
        """Yield all samples, (frames,) or (frames, channels), `frames` at a time and at last fewer.

        Raises soundfile.LibsndfileError if the file is damaged.
        """
        done = 0
        while len(part := self.read(min(frames, self.frames - done), dtype=dtype)):
            yield part
            done += len(part)
