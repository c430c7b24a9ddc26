"""List and read the files of a .zip or .tar.gz, and notice if any part of it is missing or damaged.

Python's zipfile and tarfile read on, or stop quietly, at some kinds of damage. Then files would be missing.
"""

import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from pipeline.errors import PipelineError
from pipeline.records import check_file

# What zipfile, tarfile and the decompressors raise for damaged archives; the last ones for absurd numbers.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    OverflowError,
    MemoryError,
)
# The first bytes of such a file, and of an entry of a zip.
GZIP, ZIP_ENTRY = b"\x1f\x8b", b"PK\3\4"
BLOCK = tarfile.BLOCKSIZE
# The end record of a zip and the comment after it have at most so many bytes.
END = 22 + 0xFFFF
# A size of a zip that a field of 64 bits, elsewhere, replaces.
ELSEWHERE = 0xFFFFFFFF
# Bits of a zip entry's flags.
ENCRYPTED, SIZES_FOLLOW, UTF_8 = 0x1, 0x8, 0x800
# A field of a zip entry with its name in UTF-8. Newer Pythons use it.
UNICODE_NAME = 0x7075


@dataclass(frozen=True)
class Entry:
    """A file, a folder, or something else in an archive."""

    name: str
    size: int  # bytes, unpacked
    kind: Literal["file", "folder", "link", "other"]  # a device or a pipe is another
    archive: Path
    opener: Callable[[], IO[bytes]]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Yield the content of a file. Raises PipelineError in the block if the archive is damaged."""
        with _reading(self.archive), self.opener() as file:
            yield file


def kind(path: Path) -> Literal["zip", "tar"] | None:
    """Return what the file at `path` is by its content: a zip, a tar that may be compressed, or neither."""
    try:
        # A tar may end with a zip, which zipfile would find.
        if tarfile.is_tarfile(path):
            return "tar"
    except (EOFError, zlib.error):  # compressed, but too short for one header
        return None
    # The end of a zip may also show in a compressed zip, which is none.
    return "zip" if zipfile.is_zipfile(path) and _beginning(path) != GZIP else None


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


@contextmanager
def entries(path: Path) -> Iterator[Iterator[Entry]]:
    """Yield the entries of the archive at `path`. Files can be read until the end of the block.

    Raises:
        PipelineError: the file is not a .zip or .tar.gz. The archive is damaged: some damage is found only
            after the last entry, or when a file is read. It has a password, or an unknown compression.
    """
    check_file(path)
    with _reading(path):
        archive = _open(path)
    with archive:
        if isinstance(archive, zipfile.ZipFile):
            yield _reading_each(path, _zip_entries(path, archive))
        else:
            yield _reading_each(path, _tar_entries(path, archive))


def _open(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    match kind(path):
        case "zip":
            return zipfile.ZipFile(path)
        case "tar":
            return tarfile.open(path)
    if _beginning(path) == b"PK":
        raise zipfile.BadZipFile("its end is missing")
    raise PipelineError(
        f"{path} is neither a .zip nor a .tar.gz: check its url in params.yaml: datasets, and run dvc repro"
        " -f download"
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of zipfile and tarfile into a PipelineError. Those of the file system pass through."""
    try:
        yield
    except (RuntimeError, UnicodeError) as error:
        # The archive has a password, an unknown compression, or a name that is not in its encoding.
        raise PipelineError(f"{path} cannot be unpacked: {error}: pack it again") from None
    except DAMAGE as error:
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, error) from None  # a decompressor's


def _damaged(path: Path, error: Exception) -> PipelineError:
    what = str(error) or type(error).__name__
    if what.startswith("Not a gzipped file"):  # after the end of the first one
        what = "there is something else after its end"
    return PipelineError(f"{path} is damaged: {what}: get a complete archive and run dvc repro -f download")


def _reading_each(path: Path, entries: Iterator[Entry]) -> Iterator[Entry]:
    with _reading(path):
        yield from entries


# ------------------------------------------------------------------------------------------------ zip


def _zip_entries(path: Path, archive: zipfile.ZipFile) -> Iterator[Entry]:
    """Yield the entries. Raises zipfile.BadZipFile if the parts of the archive contradict each other."""
    with path.open("rb") as file:
        _check_directory(file, archive)
        for info in archive.infolist():
            _check_local_header(file, info)
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind: Literal["link", "folder", "file"]
        kind = "link" if stat.S_ISLNK(mode) else "folder" if info.is_dir() else "file"
        yield Entry(info.filename, info.file_size, kind, path, partial(_open_in_zip, archive, info))


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.flag_bits & ENCRYPTED:
        raise RuntimeError(f"{info.filename!r} is encrypted")
    return archive.open(info)


def _check_directory(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Compare the entries, and the directory's place, that zipfile has found with the end record.

    A wrong length in an entry makes zipfile skip those after it. It also skips what is before the archive,
    which may be the program that unpacks it, but not another archive, whose files would be missing.
    """
    infos = archive.infolist()
    count, size, start = _end_record(file)
    # Some writers count more files than the field can hold from 0 again.
    if len(infos) != count and (count > 0xFFFF or len(infos) & 0xFFFF != count):
        raise zipfile.BadZipFile(f"its directory has {len(infos):,} entries, its end says {count:,}")
    found = sum(46 + len(_raw_name(info)) + len(info.extra) + len(info.comment) for info in infos)
    if found != size:
        raise zipfile.BadZipFile(f"its directory has {found:,} bytes, its end says {size:,}")
    before = archive.start_dir - start
    file.seek(0)
    if before > 0 and file.read(len(ZIP_ENTRY)) == ZIP_ENTRY:
        raise zipfile.BadZipFile(f"another archive of {before:,} bytes comes before it")


def _end_record(file: IO[bytes]) -> tuple[int, int, int]:
    """Return the directory's number of entries, its bytes, and its place in the archive by the end record."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - END - 100))  # the records of a large archive are before the end record
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    count, size, start = struct.unpack_from("<HLL", tail, at + 10)
    if tail[max(0, at - 20) : at].startswith(b"PK\6\7"):  # the archive is large, and has a larger record
        at = tail.rfind(b"PK\6\6", 0, at - 72)
        if at < 0:
            raise zipfile.BadZipFile("its ZIP64 end record is missing")
        count, size, start = struct.unpack_from("<QQQ", tail, at + 32)
    return count, size, start


def _check_local_header(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Compare an entry of the directory with the header before the file's content."""
    if not 0 <= info.header_offset < info.header_offset + 30 <= file.seek(0, os.SEEK_END):
        raise zipfile.BadZipFile(f"{info.filename!r} begins outside the archive")
    file.seek(info.header_offset)
    header = struct.unpack("<4s2xHH4xLLLHH", file.read(30))
    magic, flags, method, crc, packed, size, name_length, extra_length = header
    name, extra = file.read(name_length), file.read(extra_length)
    same = {
        "magic number": magic == ZIP_ENTRY,
        "name": name == _raw_name(info),
        "encoding": name.isascii() or flags & UTF_8 == info.flag_bits & UTF_8,
        "name in UTF-8": _unicode_name(extra) in (b"", _unicode_name(info.extra)),
        "encryption": flags & ENCRYPTED == info.flag_bits & ENCRYPTED,
        "compression": method == info.compress_type,
        "sizes": info.compress_size > 0 or info.file_size == 0,
    }
    if not flags & SIZES_FOLLOW:
        same["checksum"] = crc == info.CRC
        same["packed size"] = packed in (info.compress_size, ELSEWHERE)
        same["size"] = size in (info.file_size, ELSEWHERE)
    if not all(same.values()):
        different = ", ".join(what for what, is_same in same.items() if not is_same)
        raise zipfile.BadZipFile(f"its directory and the header of {info.filename!r} differ in: {different}")


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("utf-8" if info.flag_bits & UTF_8 else "cp437")


def _unicode_name(extra: bytes) -> bytes:
    """Return the content of the field with the name in UTF-8, among the extra fields of an entry."""
    while len(extra) >= 4:
        field, length = struct.unpack_from("<HH", extra)
        if field == UNICODE_NAME:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


# ------------------------------------------------------------------------------------------------ tar


def _tar_entries(path: Path, archive: tarfile.TarFile) -> Iterator[Entry]:
    """Yield the entries. Raises tarfile.ReadError if the archive does not end as a tar must."""
    for info in archive:
        if info.size < 0:  # tarfile would go back, and read the same entry again
            raise tarfile.ReadError(f"{info.name!r} has {info.size} bytes")
        kind: Literal["file", "folder", "link", "other"] = "other"
        if info.isreg():
            kind = "file"
        elif info.isdir():
            kind = "folder"
        elif info.issym() or info.islnk():
            kind = "link"
        yield Entry(info.name, info.size, kind, path, partial(_open_in_tar, archive, info))
    _check_end(archive)


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None  # noqa: S101 - None only for folders, links and devices
    return file


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that there are zeros where tarfile has stopped, and nothing else up to the end of the file.

    tarfile also stops at a damaged header. The checksum of a compressed tar is at its end, which tarfile
    does not read.
    """
    file = archive.fileobj
    assert file is not None  # noqa: S101 - None only if the archive is closed
    file.seek(archive.offset)
    block = file.read(BLOCK)
    if block != bytes(BLOCK):
        what = "damaged" if block else "missing"
        raise tarfile.ReadError(f"the header, or the end marker, at byte {archive.offset:,} is {what}")
    while block := file.read(1 << 20):
        if block.count(0) < len(block):
            raise tarfile.ReadError(f"there is something after its end marker at byte {archive.offset:,}")
