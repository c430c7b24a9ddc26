"""Files that are cut short, in each format, and files that only look so."""

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.corpus.audio import decode
from pipeline.corpus.headers import cut_short

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "MP3", "OGG", "FLAC")
# What libsndfile cannot write.
UNWRITABLE = ("MPEG_LAYER_I", "MPEG_LAYER_II", "DWVW_12")
ENCODINGS = [
    (container, subtype)
    for container in CONTAINERS
    for subtype in soundfile.available_subtypes(container)
    if subtype not in UNWRITABLE and (container, subtype) != ("WAV", "MPEG_LAYER_III")
]


def _write(container: str, subtype: str | None = None, endian: str | None = None) -> bytes:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (16001, 1))
    file = io.BytesIO()
    soundfile.write(file, sound, 16000, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


def _with_size(content: bytes, place: int, size: bytes) -> bytes:
    return content[:place] + size + content[place + len(size) :]


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
def test_only_a_whole_file_is_decoded(container: str, subtype: str) -> None:
    """In each encoding, a file as libsndfile writes it is whole, and a reject if its end is missing."""
    content = _write(container, subtype)
    assert cut_short(content) is None
    parts = [content[: int(len(content) * share)] for share in (0.99, 0.9, 0.5, 0.1)]
    _, results = decode([content, *parts], sample_rate=16000, duration=1.0, padding="edge")
    whole, *rejects = results
    assert whole.recorded is not None
    assert whole.recorded.samples >= 16001
    assert all(result.problem is not None for result in rejects)


@pytest.mark.parametrize(
    ("container", "endian", "promised"),
    [
        *((container, None, 32002) for container in ("WAV", "RF64", "W64", "AU", "NIST")),
        *((container, endian, 32002) for container, endian in (("WAV", "BIG"), ("AU", "LITTLE"))),
        ("AIFF", None, 32010),
        ("CAF", None, 32006),
    ],
)
def test_a_single_missing_byte_is_noticed(container: str, endian: str | None, promised: int) -> None:
    """Of 16-bit samples, the header's number of bytes is compared with those that are there."""
    content = _write(container, "PCM_16", endian)
    assert cut_short(content[:-1]) == (
        f"is cut short: its header promises {promised:,} bytes of sound, it has {promised - 1:,}"
    )


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000, 0x7F000000])
def test_a_size_that_was_not_known_promises_nothing(size: int) -> None:
    """WAV, AIFF and AU files that were written to a pipe have no size, or a huge one."""
    little, big = struct.pack("<I", size), struct.pack(">I", size)
    wav, aiff, au = _write("WAV", "PCM_16"), _write("AIFF", "PCM_16"), _write("AU", "PCM_16")
    assert cut_short(_with_size(wav, wav.index(b"data") + 4, little)) is None
    assert cut_short(_with_size(aiff, aiff.index(b"SSND") + 4, big)) is None
    assert cut_short(_with_size(au, 8, big)) is None


def test_an_unknown_64_bit_size_promises_nothing() -> None:
    """The sizes 0 and -1 of RF64, Wave64 and CAF are not known either."""
    rf64, w64, caf = _write("RF64", "PCM_16"), _write("W64", "PCM_16"), _write("CAF", "PCM_16")
    for size in (bytes(8), b"\xff" * 8):
        assert cut_short(_with_size(rf64, 28, size)) is None
        assert cut_short(_with_size(w64, w64.index(b"data") + 16, size)) is None
        assert cut_short(_with_size(caf, caf.index(b"data") + 4, size)) is None


def test_other_chunks_do_not_count() -> None:
    """Chunks before and after a WAV's samples, an odd one too, do not matter, even if the last is cut."""
    wav = _write("WAV", "PCM_U8")
    chunk = b"LIST" + struct.pack("<I", 5) + b"title\0"
    data = wav.index(b"data")
    content = wav[:data] + chunk + wav[data:] + chunk  # libsndfile has added a byte after an odd chunk
    for missing in range(len(chunk) + 2):
        assert cut_short(content[: len(content) - missing]) is None
    assert cut_short(content[: len(content) - len(chunk) - 2]) is not None


def test_an_mp3_promises_only_what_its_header_says() -> None:
    """The header may be Xing's, Info's or VBRI's, after a tag. Without one, nothing is known."""
    mp3 = _write("MP3")
    place = mp3.index(b"Xing")
    assert struct.unpack(">II", mp3[place + 4 : place + 8] + mp3[place + 12 : place + 16]) == (15, len(mp3))
    tag = b"ID3\4\0\0\0\0\1\x02" + bytes(130)
    vbri = mp3[:36] + b"VBRI" + bytes(6) + struct.pack(">I", len(mp3)) + mp3[50:]
    without_frames = mp3[: place + 7] + b"\2" + struct.pack(">I", len(mp3)) + mp3[place + 12 :]
    promising = [mp3, tag + mp3, mp3.replace(b"Xing", b"Info", 1), vbri[:13] + bytes(23) + vbri[36:]]
    for content in [*promising, without_frames]:
        assert cut_short(content) is None
        assert cut_short(content + b"TAG" + bytes(125)) is None
        assert f"promises {len(mp3):,} bytes of sound, it has {len(mp3) - 1:,}" in str(
            cut_short(content[:-1])
        )
    assert cut_short(mp3[: place + 7] + b"\1" + mp3[place + 8 : -99]) is None  # a header without bytes
    assert cut_short(mp3.replace(b"Xing", bytes(4), 1)[:-99]) is None


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_stream_must_end(subtype: str) -> None:
    """Without its last page, or a part of it, an Ogg file is cut short."""
    ogg = _write("OGG", subtype)
    pages = [match.start() for match in re.finditer(b"OggS", ogg)]
    assert len(pages) > 2
    for end in [*pages[1:], pages[-1] + 10, pages[-1] + 27, len(ogg) - 1]:
        assert cut_short(ogg[:end]) == "is cut short: its last page does not end the stream"


@pytest.mark.parametrize("content", [b"", b"R", b"no audio", b"RIFF", b"RIFF\0\0\0\0WAVE", b"ID3", b"\xff"])
def test_of_other_content_nothing_is_known(content: bytes) -> None:
    """Content without a header is for libsndfile to judge."""
    assert cut_short(content) is None


def test_real_clips_are_whole(real_archive: Path) -> None:
    """No real clip is taken for one that is cut short, and each is if a byte is missing."""
    with zipfile.ZipFile(real_archive) as archive:
        for name in archive.namelist():
            if name.endswith(".wav"):
                content = archive.read(name)
                assert cut_short(content) is None
                assert cut_short(content[:-1]) is not None
