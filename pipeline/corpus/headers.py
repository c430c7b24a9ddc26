"""Tell from an audio file's header whether the file is cut short, and which sample rates to believe."""

import math
import re
from mmap import mmap
from typing import Literal

# Programs that write into a pipe do not know the size. They write 0, or a number from here on: 0xffffffff,
# 0x7fffffff, 0x7ffff000 or 0x7f000000, rounded to whole samples.
UNKNOWN_SIZE = 2_000_000_000

# How each reason begins.
CUT_SHORT = "is cut short"

# The name of the chunk with the samples in a Wave64 file, whose names have 16 bytes.
W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"

NIST_HEADER = 1024  # bytes

# Below the lowest rate, a recording has nothing above 500 Hz. No recorder works above the highest rate. A
# header with another rate is damaged: the clip would be silence, or resampling it would take all memory.
SAMPLE_RATES = range(1_000, 1_000_001)  # Hz

Truncated = Literal["reject", "accept"]  # what becomes of a file that is cut short
Content = bytes | mmap
ByteOrder = Literal["little", "big"]


def cut_short(content: Content) -> str | None:
    """Return what an audio file lacks of what its header promises, or None if it is whole as far as we know.

    The header promises a number of bytes in WAV, RF64, Wave64, AIFF, AU, CAF and NIST, and in MP3 if it has a
    Xing, Info or VBRI header. In Ogg, the last page must end the stream. Of other formats nothing is known.
    One of them is FLAC, but decoding a FLAC file that is cut short fails.

    Args:
        content: the file's bytes.
    """
    if content[:4] == b"OggS":
        return None if _has_last_page(content) else f"{CUT_SHORT}: its last page does not end the stream"
    promised, found = _bytes_of_sound(content)
    if not 0 < promised < UNKNOWN_SIZE or promised <= found:
        return None
    return f"{CUT_SHORT}: its header promises {promised:,} bytes of sound, it has {max(0, found):,}"


def _bytes_of_sound(content: Content) -> tuple[int, int]:
    """Return how many bytes of sound the header promises, 0 if it does not say, and how many there are."""
    match bytes(content[:4]), bytes(content[8:12]):
        case b"RIFF", b"WAVE":
            sizes = _chunk(content, 12, b"data", "little")
        case b"RIFX", b"WAVE":
            sizes = _chunk(content, 12, b"data", "big")
        case b"RF64", b"WAVE":  # the first chunk has the size, in 64 bits
            sizes = _number(content, 28, "little", 8), _chunk(content, 12, b"data", "little")[1]
        case b"riff", _:
            sizes = _chunk(content, 40, W64_DATA, "little", size_bytes=8, align=8)
        case b"FORM", b"AIFF" | b"AIFC":
            sizes = _chunk(content, 12, b"SSND", "big")
        case b"caff", _:
            sizes = _chunk(content, 8, b"data", "big", size_bytes=8, align=1)
        case b".snd", _:
            sizes = _number(content, 8, "big"), len(content) - _number(content, 4, "big")
        case b"dns.", _:
            sizes = _number(content, 8, "little"), len(content) - _number(content, 4, "little")
        case b"NIST", _:
            fields = dict(re.findall(rb"^(\w+) -i (\d+)", content[:NIST_HEADER], re.MULTILINE))
            factors = (b"sample_count", b"channel_count", b"sample_n_bytes")  # the last is missing in u-law
            promised = math.prod(int(fields.get(factor, 1)) for factor in factors)
            sizes = promised, len(content) - NIST_HEADER
        case _:
            sizes = _mp3(content)
    return sizes


def _chunk(
    content: Content, place: int, name: bytes, order: ByteOrder, *, size_bytes: int = 4, align: int = 2
) -> tuple[int, int]:
    """Return the size of the chunk `name`, and how many bytes the file has from its beginning on.

    Both are 0 if there is no such chunk. A chunk is a name, a size of `size_bytes` bytes, and so many bytes.
    The first one is at `place`, and each is at a multiple of `align`.
    """
    head = len(name) + size_bytes
    while place + head <= len(content):
        size = _number(content, place + len(name), order, size_bytes)
        if name == W64_DATA:
            size = max(0, size - head)  # Wave64 counts name and size too
        if content[place : place + len(name)] == name:
            return size, len(content) - place - head
        place += head + size
        place += -place % align
    return 0, 0


def _mp3(content: Content) -> tuple[int, int]:
    """Return how many bytes the header of an MP3 promises, 0 if it has none, and how many there are."""
    start = 0
    if content[:3] == b"ID3":  # a tag, with its size in four bytes of 7 bits
        size = content[6:10].ljust(4, b"\0")
        start = 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
    frame, found = content[start : start + 64], len(content) - start
    if frame[:1] != b"\xff":
        return 0, found
    if frame[36:40] == b"VBRI":
        return _number(frame, 46, "big"), found
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags = _number(frame, place + 4, "big") if place >= 0 else 0
    has_frames, has_bytes = flags & 1, flags & 2
    return _number(frame, place + (12 if has_frames else 8), "big") if has_bytes else 0, found


def _has_last_page(content: Content) -> bool:
    """Return whether an Ogg file ends with a whole page that is marked as the stream's last."""
    place = content.rfind(b"OggS")
    head = content[place : place + 27]
    if len(head) < 27:
        return False
    is_last, segments = head[5] & 4, head[26]
    sizes = content[place + 27 : place + 27 + segments]
    return bool(is_last) and place + 27 + segments + sum(sizes) <= len(content)


def _number(content: Content, place: int, order: ByteOrder, size: int = 4) -> int:
    return int.from_bytes(content[place : place + size], order)
