"""Fetch an archive of clips, verify its checksum, list its files, and unpack it safely."""

import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal
from urllib.parse import unquote, urlparse

from pydantic import Field, field_validator

from pipeline.corpus import tables
from pipeline.corpus.paths import AUDIO_SUFFIXES, is_clip, is_table
from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from pipeline.params import Section, project
from pipeline.progress import Progress

RETRIES = 3  # after the first try
# Raised for damaged compressed data.
BAD_STREAM = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)


class Archive(Section):
    """The section `datasets.<name>`: a published archive, or one on this machine."""

    url: str | None  # an http(s) URL or a path
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")  # of the archive; None if unknown

    @field_validator("url")
    @classmethod
    def _http_or_path(cls, url: str | None) -> str | None:
        if url == "" or (url and "://" in url and _scheme(url) not in ("http", "https", "file")):
            raise ValueError(f"must be an http(s) URL or a path, is {url!r}")
        return url


class Unpacking(Section):
    """The section `extract`: which folders to leave out, and how large an archive may become."""

    exclude: list[str]  # names of folders and files
    max_bytes: int = Field(ge=1)  # of all files, unpacked


# ---------------------------------------------------------------------------------------------- fetch


def fetch(archive: Archive, path: Path, *, name: str) -> str:
    """Write the archive to `path` and return its sha256.

    An http(s) URL is downloaded. If the error may be temporary, the download is tried again. Any other URL is
    a path, whose file is copied. `path` appears when the archive is complete and its checksum is right.

    Args:
        archive: where the archive is, and its sha256 if you know it.
        path: the file to write.
        name: the name of the data set under `datasets` in params.yaml.

    Raises:
        PipelineError: `archive` has no URL, there is no such file, the server cannot be reached or does not
            have the file, or the checksum differs.
    """
    import pooch

    key = f"datasets.{name}"
    if archive.url is None:
        raise PipelineError(
            f"params.yaml: {key}.url must be a URL or a path to a .zip or .tar.gz of audio files, is null:"
            f" set it in params.yaml, or run dvc exp run -S {key}.url=PATH"
        )
    with atomic_write(path) as part:
        source = local_path(archive.url)
        if source is None:
            _download(archive.url, part, key)
        elif source.is_file():
            shutil.copyfile(source, part)
        else:
            raise PipelineError(
                f"params.yaml: {key}.url must be a URL or the path of an archive, is {archive.url!r}: there"
                f" is no file {source}: correct the path"
            )
        digest = str(pooch.file_hash(part))
        if archive.sha256 not in (None, digest):
            raise PipelineError(
                f"{archive.url}: sha256 is {digest}, expected {archive.sha256}: the archive is damaged, or"
                " somebody replaced it: run dvc repro to fetch it again, or if you trust it, set params.yaml:"
                f" {key}.sha256 to the new value"
            )
    return digest


def _scheme(url: str) -> str:
    return urlparse(url).scheme if "://" in url else ""


def _download(url: str, path: Path, key: str) -> None:
    import pooch
    import requests

    def try_once(url: str, file: str, source: pooch.Pooch | None) -> None:
        try:
            pooch.HTTPDownloader(progressbar=progress)(url, file, source)
        except requests.HTTPError as error:
            status = error.response.status_code
            if status < 500 and status not in (408, 429):  # another try would fail too
                raise PipelineError(f"{error}: check params.yaml: {key}.url") from None
            raise
        except requests.exceptions.InvalidURL as error:
            raise PipelineError(f"{url} is not a URL: {error}: check params.yaml: {key}.url") from None

    pooch.get_logger().setLevel("WARNING")
    # `fetch` checks the checksum. If pooch did, it would download an archive with a wrong one again.
    source = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: url}, retry_if_failed=RETRIES
    )
    with Progress(0, "B", "download") as progress:
        try:
            source.fetch(path.name, downloader=try_once)
        except requests.RequestException as error:
            raise PipelineError(
                f"{url} cannot be fetched, after {RETRIES + 1} tries: {error}\nIf you are offline, fetch the"
                f" archive on another machine and set params.yaml: {key}.url to its path, or run"
                " dvc repro --pull to get what a teammate has computed"
            ) from None


def local_path(url: str) -> Path | None:
    """Return the path that `url` is, or None if it is an http(s) URL."""
    if _scheme(url) in ("http", "https"):
        return None
    text = unquote(urlparse(url).path) if _scheme(url) == "file" else url
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - keeps an unknown ~user as it is
    # A queued experiment runs in a copy of the project, but a relative path starts at the project itself.
    return path.absolute() if path.exists() else project() / path


# --------------------------------------------------------------------------------------------- unpack


@dataclass(frozen=True)
class _Entry:
    """A file, a folder, or something else in an archive."""

    name: str
    size: int  # bytes, unpacked
    kind: Literal["file", "folder", "link", "device"]  # the last two are refused
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Contents:
    """The files of an archive that the pipeline uses, by their paths below the top folder.

    If one folder contains all clips, each in a folder of its own in it, that top folder is not a part of the
    paths. Of a table in it and one beside it, whose paths are then equal, only the first is used. Files
    without an audio extension, hidden files, and files in an excluded folder are left out.
    """

    clips: dict[str, _Entry]
    tables: dict[str, _Entry]  # files that end in .csv, .tsv or .txt

    def read_table(self, name: str) -> bytes:
        """Return the content of the table `name`. Raises PipelineError if the archive has no such file."""
        with tables.find(name, self.tables).open() as file:
            return file.read()


@contextmanager
def opened(path: Path, unpacking: Unpacking) -> Iterator[Contents]:
    """Yield what the archive at `path` contains. Its files can be read until the end of the block.

    Raises:
        PipelineError: the archive is not a .zip or .tar.gz, or is damaged. An entry is a link or a device, or
            would be written outside a folder. The files have more than `max_bytes`. A clip appears twice, or
            there are no clips.
    """
    with _readable_errors(path), _open_entries(path) as entries:
        files: dict[tuple[str, ...], _Entry] = {}
        total = 0
        for entry in entries:
            parts = _safe_parts(path, entry)
            total += entry.size
            if total > unpacking.max_bytes:
                raise PipelineError(
                    f"{path} unpacks to over {unpacking.max_bytes:,} bytes, at {entry.name!r}: if you expect"
                    " that many, raise params.yaml: extract.max_bytes"
                )
            is_used = (is_clip(parts) or is_table(parts)) and not {*parts} & {*unpacking.exclude}
            if entry.kind == "file" and is_used:
                if parts in files and is_clip(parts):
                    raise PipelineError(
                        f"{path} contains {entry.name!r} twice: pack it again, with each file once"
                    )
                files[parts] = entry
        clips = [parts for parts in files if is_clip(parts)]
        if not clips:
            raise PipelineError(
                f"{path} contains no clips, expected audio files ({', '.join(AUDIO_SUFFIXES)}): pack the"
                " archive again"
            )
        top = clips[0][:1] if all(len(parts) > 2 and parts[0] == clips[0][0] for parts in clips) else ()
        contents = Contents({}, {})
        for parts in sorted(files, key=lambda parts: parts[:1] != top):
            group = contents.clips if is_clip(parts) else contents.tables
            group.setdefault(_below(top, parts), files[parts])
        yield contents


def _below(top: tuple[str, ...], parts: tuple[str, ...]) -> str:
    return "/".join(parts[len(top) :] if parts[: len(top)] == top else parts)


def unpack(path: Path, folder: Path, tables_path: Path, unpacking: Unpacking) -> int:
    """Write the audio files of the archive at `path` to `folder`; return how many there are.

    Their paths in `folder` are those of `Contents`. The tables are written to a zip archive, `tables_path`.

    Raises:
        PipelineError: as `opened`. Nothing is then written.
    """
    with opened(path, unpacking) as contents, atomic_write(folder) as part:
        with Progress(len(contents.clips), "clips", "extract") as progress:
            for name, entry in contents.clips.items():
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with entry.open() as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                progress.update(1)
        tables.write(tables_path, {name: entry.open for name, entry in contents.tables.items()})
        return len(contents.clips)


def _safe_parts(path: Path, entry: _Entry) -> tuple[str, ...]:
    """Return the folders and the file in the entry's name. Raises PipelineError if they are unsafe."""
    pure = PurePosixPath(entry.name.replace("\\", "/"))
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise PipelineError(
            f"{path}: the name {entry.name!a} is not UTF-8: rename the file and pack the archive again"
        ) from None
    drive = re.match(r"[A-Za-z]:", entry.name)
    if pure.is_absolute() or ".." in pure.parts or drive:
        raise PipelineError(
            f"{path}: {entry.name!r} would be written outside the target folder: pack the archive again, with"
            " relative paths"
        )
    if entry.kind not in ("file", "folder"):
        raise PipelineError(
            f"{path}: {entry.name!r} is a {entry.kind}, expected only files and folders: pack the archive"
            " again without it"
        )
    return pure.parts or (".",)


@contextmanager
def _open_entries(path: Path) -> Iterator[Iterator[_Entry]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield (_zip_entry(archive, info) for info in archive.infolist())
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            yield _tar_entries(archive)
    elif _first_bytes(path) == b"PK":
        raise zipfile.BadZipFile("its end is missing")
    else:
        raise PipelineError(
            f"{path} is neither a .zip nor a .tar.gz: check params.yaml: datasets.{path.name}.url"
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    mode = info.external_attr >> 16
    kind: Literal["link", "folder", "file"]
    kind = "link" if stat.S_ISLNK(mode) else "folder" if info.is_dir() else "file"
    return _Entry(info.filename, info.file_size, kind, lambda: archive.open(info))


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for info in archive:
        yield _tar_entry(archive, info)
    # Read on to the end: the checksum of a compressed tar is there, and tarfile stops before it.
    while archive.fileobj is not None and archive.fileobj.read(1 << 20):
        pass


def _tar_entry(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Entry:
    kind: Literal["file", "folder", "link", "device"] = "device"
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym() or info.islnk():
        kind = "link"

    def open_file() -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # noqa: S101 - None only for folders, links and devices
        return file

    return _Entry(info.name, info.size, kind, open_file)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn the errors of zipfile, tarfile and the file system into a PipelineError."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, *BAD_STREAM) as error:
        raise PipelineError(
            f"{path} is damaged: {error}: get a complete archive and run dvc repro -f download"
        ) from None
    except (RuntimeError, NotImplementedError, OSError, UnicodeError) as error:
        # The archive has a password, an unknown compression, or a name that this file system refuses.
        raise PipelineError(f"{path} cannot be unpacked: {error}: pack it again") from None
