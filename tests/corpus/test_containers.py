"""Damaged archives: each ends in an error, or in exactly the files of the whole archive."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.containers import entries, kind
from pipeline.errors import PipelineError
from tests.damage import damaged_binary, fuzz

GENERATOR = np.random.default_rng(0)
FILES = {f"{label}/{n}.wav": GENERATOR.bytes(40 + n) for label in ("yes", "nö") for n in range(20)}
Files = dict[str, bytes]


class _Pipe(io.BytesIO):
    """A file that zipfile cannot rewind, so that sizes and checksums follow the data."""

    def seekable(self) -> bool:
        return False


def _zip(target: io.BytesIO | None = None, *, comment: bytes = b"") -> bytes:
    target = target or io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, content in FILES.items():
            archive.writestr(name, content)
    return target.getvalue()


def _zip64(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return a zip whose end record refers to a larger one, as with more than 65,535 files."""
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
        return _zip()


def _tar(files: Files = FILES, form: int = tarfile.GNU_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def _read(path: Path, content: bytes) -> Files | None:
    """Return the files of the archive with this `content`, or None if it is refused."""
    path.write_bytes(content)
    try:
        with entries(path) as found:
            files = {}
            for entry in list(found):
                with entry.open() as file:
                    files[entry.name] = file.read()
            return files
    except PipelineError:
        return None


def _flipped(content: bytes, position: int, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


@pytest.mark.parametrize("form", ["plain", "streamed", "zip64"])
def test_a_flipped_bit_in_a_zip_loses_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """60 bits, half of them in the directory. Some, such as those of dates, mean nothing."""
    content = {"plain": _zip(), "streamed": _zip(_Pipe()), "zip64": _zip64(monkeypatch)}[form]
    path = tmp_path / "own"
    assert _read(path, content) == FILES
    start = zipfile.ZipFile(path).start_dir
    generator = np.random.default_rng(len(form))
    results = [
        _read(path, _flipped(content, *generator.integers((first, 0), (len(content), 8))))
        for first in (0, start)
        for _ in range(30)
    ]
    assert all(files in (None, FILES) for files in results)
    assert results.count(None) > 20


@pytest.mark.parametrize("pack", [_zip, lambda: gzip.compress(_tar()), lambda: bz2.compress(_tar())])
@fuzz(100)
def test_a_damaged_archive_is_refused_or_whole(
    tmp_path: Path, pack: Callable[[], bytes], generator: random.Random
) -> None:
    """However an archive with checksums is damaged, it is an error, or has exactly its files."""
    assert _read(tmp_path / "own", damaged_binary(pack(), generator)) in (None, FILES)


def _lengths(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Return the position and the length of each entry in the directory of a zip."""
    found = []
    position = zipfile.ZipFile(io.BytesIO(content)).start_dir
    while content[position : position + 4] == b"PK\1\2":
        length = 46 + sum(struct.unpack_from("<HHH", content, position + 28))
        found.append((position, length))
        position += length
    return found


@pytest.mark.parametrize("swallowed", [1, 3, 38])
@pytest.mark.parametrize("form", ["plain", "zip64"])
def test_an_entry_of_a_zip_that_swallows_others_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, swallowed: int
) -> None:
    """A comment that is said to be longer than it is hides the next entries, but the end counts them."""
    content = bytearray(_zip() if form == "plain" else _zip64(monkeypatch))
    lengths = _lengths(content)
    assert len(lengths) == len(FILES)
    hidden = sum(length for _, length in lengths[1 : swallowed + 1])
    struct.pack_into("<H", content, lengths[0][0] + 32, hidden)
    path = tmp_path / "own"
    path.write_bytes(content)
    assert len(zipfile.ZipFile(path).namelist()) == len(FILES) - swallowed
    message = f"damaged: its directory has {len(FILES) - swallowed} entries, its end says 40"
    with pytest.raises(PipelineError, match=message), entries(path) as found:
        list(found)


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [(45, b"x", "name"), (16, b"????", "checksum"), (24, b"?", "size"), (10, b"\0", "compression")],
)
def test_the_directory_of_a_zip_must_agree_with_the_headers(
    tmp_path: Path, offset: int, value: bytes, what: str
) -> None:
    """A file that is not read is compared too: under another name, a clip would be left out."""
    content = bytearray(_zip())
    start, length = _lengths(content)[3]
    position = start + (length - 1 if what == "name" else offset)
    content[position : position + len(value)] = value
    path = tmp_path / "own"
    path.write_bytes(content)
    with (
        pytest.raises(PipelineError, match=rf"the header of 'yes/3\.wa.' differ in: {what}"),
        entries(path) as found,
    ):
        list(found)


def test_a_file_of_a_zip_that_lost_its_sizes_is_found(tmp_path: Path) -> None:
    """zipfile would read nothing of it, whose checksum is 0."""
    content = bytearray(_zip(_Pipe()))
    position = _lengths(content)[3][0] + 16
    content[position : position + 8] = bytes(8)  # checksum and packed size
    assert _read(tmp_path / "own", bytes(content)) is None


def test_an_encrypted_file_of_a_zip_is_named(tmp_path: Path) -> None:
    """The text has no names of Python's own."""
    content = bytearray(_zip())
    content[6] |= 1  # the flags in the header of the first file, and in the directory
    content[_lengths(content)[0][0] + 8] |= 1
    path = tmp_path / "own"
    path.write_bytes(content)
    message = rf"^{path} cannot be unpacked: 'yes/0\.wav' is encrypted: pack it again$"
    with entries(path) as found:
        first, second, *_ = found
        with second.open() as file:
            assert file.read() == FILES["yes/1.wav"]
        with pytest.raises(PipelineError, match=message), first.open():
            pass


def test_zips_of_many_writers_are_accepted(tmp_path: Path) -> None:
    """A comment, bytes before the archive, and more files than the end can count are no damage."""
    path = tmp_path / "own"
    assert _read(path, _zip(comment=b"a comment")) == FILES
    assert _read(path, b"#!/bin/sh\nexec unzip $0\n" + _zip()) == FILES
    path.write_bytes(_many(0x10000 + 3))
    with entries(path) as found:
        assert sum(1 for _ in found) == 0x10000 + 3


@pytest.mark.parametrize("form", ["plain", "zip64"])
def test_two_zips_in_one_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """zipfile reads only the last."""
    first, second = _zip(), _zip() if form == "plain" else _zip64(monkeypatch)
    path = tmp_path / "own"
    path.write_bytes(first + second)
    message = f"damaged: another archive of {len(first):,} bytes comes before it: "
    with pytest.raises(PipelineError, match=message), entries(path) as found:
        list(found)


def _many(count: int) -> bytes:
    """Return a zip of empty files whose end counts to 65,535 and then again from 0, as macOS writes it."""
    local, directory = io.BytesIO(), io.BytesIO()
    for number in range(count):
        name = b"%d.wav" % number
        common = struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0)
        rest = struct.pack("<HHHLL", 0, 0, 0, 0, local.tell())
        directory.write(b"PK\1\2" + struct.pack("<H", 20) + common + rest + name)
        local.write(b"PK\3\4" + common + name)
    size, count = directory.tell(), count & 0xFFFF
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, count, count, size, local.tell(), 0)
    return local.getvalue() + directory.getvalue() + end


def test_bytes_after_a_compressed_tar_are_refused(tmp_path: Path) -> None:
    """They may be a part of another archive. The text has none of Python's."""
    path = tmp_path / "own"
    path.write_bytes(gzip.compress(_tar()) + b"garbage")
    message = f"^{path} is damaged: there is something else after its end: get a complete archive"
    with pytest.raises(PipelineError, match=message), entries(path) as found:
        list(found)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_cut_tar_is_refused(tmp_path: Path, form: int) -> None:
    """A tar that ends after any block is refused, unless only zeros at its end are missing."""
    content = _tar(form=form)
    end = len(content.rstrip(b"\0"))
    for length in range(512, len(content), 512):
        expected = None if length < end + 512 else FILES
        assert _read(tmp_path / "own", content[:length]) == expected, length


def _headers(content: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [info.offset for info in archive]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_flipped_bit_in_the_header_of_a_tar_loses_no_file(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """tarfile takes a header with a wrong checksum for the end. A few bits mean nothing."""
    content = _tar()
    headers = _headers(content)
    generator = np.random.default_rng(0)
    path = tmp_path / "own"
    assert _read(path, compress(content)) == FILES
    results = [
        _read(path, compress(_flipped(content, *generator.integers((position, 0), (position + 512, 8)))))
        for position in (headers[1], headers[20], headers[-1])
        for _ in range(8)
    ]
    assert all(files in (None, FILES) for files in results)
    assert results.count(None) > 20


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_damaged_compressed_tar_is_refused(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """If it was cut before it was packed, if it is cut, or if its last checksum is wrong."""
    content = _tar()
    path = tmp_path / "own"
    assert _read(path, compress(content[: _headers(content)[20]])) is None
    packed = compress(content)
    assert _read(path, packed[:-9]) is None
    position = len(packed) - (5 if compress is gzip.compress else 10)
    assert _read(path, _flipped(packed, position, 0)) is None


def test_two_tars_in_one_file_are_refused(tmp_path: Path) -> None:
    """tarfile reads only the first."""
    first, second = _tar({"yes/a.wav": b"1"}), _tar({"no/b.wav": b"2"})
    path = tmp_path / "own"
    path.write_bytes(first + second)
    with pytest.raises(PipelineError, match="something after its end marker"), entries(path) as found:
        list(found)


def test_a_file_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    """tarfile would go back by that size, and read the same headers for ever."""
    info = tarfile.TarInfo("yes/a.wav")
    info.size = -1024
    content = _tar({"no/b.wav": b"1"})
    path = tmp_path / "own"
    path.write_bytes(content[:1024] + info.tobuf(tarfile.GNU_FORMAT) + content[1024:])
    with pytest.raises(PipelineError, match="damaged"), entries(path) as found:
        list(found)


def test_an_absurd_size_of_an_extended_header_is_damage(tmp_path: Path) -> None:
    """Its number of bytes is too large for an index."""
    info = tarfile.TarInfo("yes/a.wav")
    info.type, info.size = tarfile.XHDTYPE, 2**80
    path = tmp_path / "own"
    path.write_bytes(_tar({"no/b.wav": b"1"})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(PipelineError, match="damaged"), entries(path) as found:
        list(found)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_zip(), "zip"),
        (_tar(), "tar"),
        (gzip.compress(_tar()), "tar"),
        (bz2.compress(_tar()), "tar"),
        (lzma.compress(_tar()), "tar"),
        (_tar({"inner.zip": _zip()}), "tar"),
        (_zip()[:-30], None),
        (gzip.compress(_tar())[:20], None),
        (gzip.compress(_zip(), 0), None),
        (b"<html>" + bytes(1000), None),
        (b"", None),
    ],
    ids=["zip", "tar", "gz", "bz2", "xz", "zip in tar", "cut zip", "cut gz", "zip in gz", "html", "empty"],
)
def test_the_kind_of_a_file_is_known_by_its_content(
    tmp_path: Path, content: bytes, expected: str | None
) -> None:
    """Only a zip and a tar, which may be compressed, are archives."""
    (tmp_path / "own").write_bytes(content)
    assert kind(tmp_path / "own") == expected


def test_an_archive_that_is_no_file_is_named(tmp_path: Path) -> None:
    """A missing archive, a folder and a FIFO, which would never end, are one message each."""
    os.mkfifo(tmp_path / "fifo")
    for path, message in (
        (tmp_path / "missing", "is missing: run dvc repro"),
        (tmp_path, "must be a file, is a folder"),
        (tmp_path / "fifo", "must be a file, is a FIFO"),
    ):
        with pytest.raises(PipelineError, match=message), entries(path):
            pass
