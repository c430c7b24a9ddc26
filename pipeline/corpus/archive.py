"""An archive of clips: fetch it, verify it, unpack it safely."""

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
from typing import IO
from urllib.parse import unquote, urlparse

from pydantic import Field, field_validator

from pipeline.errors import PipelineError
from pipeline.files import project, replacing
from pipeline.params import Section
from pipeline.progress import Progress

RETRIES = 3
BAD_STREAM = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError)
AUDIO_SUFFIXES = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".w64", ".wav", ".wave",
)  # fmt: skip


class Archive(Section):
    """`datasets.<name>`: an archive that somebody published, or that lies on this machine."""

    url: str | None
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")

    @field_validator("url")
    @classmethod
    def _http_or_path(cls, url: str | None) -> str | None:
        if url == "" or (url and "://" in url and _scheme(url) not in ("http", "https", "file")):
            raise ValueError(f"must be an http(s) URL or a path, is {url!r}")
        return url


class Unpacking(Section):
    """`extract`: what to take out of an archive, and how much of it at most."""

    exclude: list[str]
    max_bytes: int = Field(ge=1)


# ---------------------------------------------------------------------------------------------- fetch


def fetch(archive: Archive, path: Path, *, name: str) -> str:
    """Write the archive to `path` and return its sha256.

    An http(s) URL is downloaded, and tried again where the fault may pass; anything else is a path,
    copied. Nothing stands at `path` before the whole archive is there and its checksum is right.

    Args:
        archive: where it is, and its sha256 if that is known.
        path: the file to write.
        name: the data set's, under `datasets` in params.yaml.

    Raises:
        PipelineError: there is no such file, the server can't be reached or has no such file, or the
            checksum is another.
    """
    import pooch

    key = f"datasets.{name}"
    if archive.url is None:
        raise PipelineError(
            f"params.yaml: {key}.url must be a URL or a path to a .zip or .tar.gz with one folder per label,"
            f" is null: set it there or with dvc exp run -S {key}.url=PATH"
        )
    with replacing(path) as part:
        if _scheme(archive.url) in ("http", "https"):
            _download(archive.url, part, key)
        else:
            _copy(archive.url, part, key)
        found = str(pooch.file_hash(part))
        if archive.sha256 not in (None, found):
            raise PipelineError(
                f"{archive.url}: sha256 is {found}, expected {archive.sha256}: it was damaged or replaced on"
                f" the way; fetch it again, or if you trust it set params.yaml: {key}.sha256"
            )
    return found


def _scheme(url: str) -> str:
    return urlparse(url).scheme if "://" in url else ""


def _download(url: str, path: Path, key: str) -> None:
    import pooch
    import requests

    def once(url: str, file: str, source: pooch.Pooch | None) -> None:
        try:
            pooch.HTTPDownloader(progressbar=progress)(url, file, source)
        except requests.HTTPError as error:
            status = error.response.status_code
            if status < 500 and status not in (408, 429):  # these alone may pass
                raise PipelineError(f"{error}: check params.yaml: {key}.url") from None
            raise
        except requests.exceptions.InvalidURL as error:
            raise PipelineError(f"{url} is no URL: {error}: check params.yaml: {key}.url") from None

    pooch.get_logger().setLevel("WARNING")
    # The checksum is the caller's to check: pooch would take a wrong one for a passing fault.
    source = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: url}, retry_if_failed=RETRIES
    )
    with Progress(0, "B", "download") as progress:
        try:
            source.fetch(path.name, downloader=once)
        except requests.RequestException as error:
            raise PipelineError(
                f"{url} cannot be fetched, after {RETRIES + 1} tries: {error}\nOffline, fetch the archive"
                f" on another machine and set params.yaml: {key}.url to its path, or get what a teammate"
                " has computed: dvc repro --pull"
            ) from None


def _copy(url: str, path: Path, key: str) -> None:
    source = _local(url)
    if not source.is_file():
        raise PipelineError(
            f"params.yaml: {key}.url must be a URL or the path of an archive, is {url!r}: no file {source}"
        )
    shutil.copyfile(source, path)


def _local(url: str) -> Path:
    text = unquote(urlparse(url).path) if _scheme(url) == "file" else url
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - leaves the home of nobody as it is
    # A queued experiment runs in a copy of the project: a relative path is meant from the project itself.
    return path.absolute() if path.exists() else project() / path


# --------------------------------------------------------------------------------------------- unpack


@dataclass(frozen=True)
class _Entry:
    name: str
    length: int  # bytes, unpacked
    kind: str  # "file", "folder", or what else it is, which is refused
    open: Callable[[], IO[bytes]]


def unpack(path: Path, folder: Path, unpacking: Unpacking) -> int:
    """Write the audio files of the archive at `path` to `folder/<label>/<file>` and return their number.

    The label folders are found whether or not one top folder wraps them. What is no audio by its suffix,
    is hidden, or lies in an excluded folder is skipped.

    Raises:
        PipelineError: the file is no .zip or .tar.gz or is damaged; an entry leaves the folder, is a link
            or a device; there is more than `max_bytes`; a clip lies outside a label folder, or there is
            none. Then `folder` is as it was.
    """
    with _errors(path), _opened(path) as entries, replacing(folder) as part:
        found: dict[tuple[str, ...], _Entry] = {}
        total = 0
        for entry in entries:
            parts = _safe_parts(path, entry)
            total += entry.length
            if total > unpacking.max_bytes:
                raise PipelineError(
                    f"{path}: unpacks to over {unpacking.max_bytes:,} bytes, at {entry.name!r}: if that is"
                    " right, raise params.yaml: extract.max_bytes"
                )
            if entry.kind == "file" and _is_clip(parts, unpacking.exclude):
                if parts in found:
                    raise PipelineError(f"{path}: holds {entry.name!r} twice: make it anew, each clip once")
                found[parts] = entry
        wrap = _wrapping_folders(path, list(found))
        with Progress(len(found), "clips", "extract") as progress:
            for parts, entry in found.items():
                target = part.joinpath(*parts[wrap:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with entry.open() as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                progress.update(1)
    return len(found)


def _is_clip(parts: tuple[str, ...], exclude: list[str]) -> bool:
    return PurePosixPath(parts[-1]).suffix.lower() in AUDIO_SUFFIXES and not any(
        part.startswith(".") or part == "__MACOSX" or part in exclude for part in parts
    )


def _safe_parts(path: Path, entry: _Entry) -> tuple[str, ...]:
    pure = PurePosixPath(entry.name.replace("\\", "/"))
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise PipelineError(f"{path}: {entry.name!a} is no UTF-8: rename it and pack it anew") from None
    drive = re.match(r"[A-Za-z]:", entry.name)
    if pure.is_absolute() or ".." in pure.parts or drive:
        raise PipelineError(f"{path}: refused, as {entry.name!r} leaves the folder that it is unpacked to")
    if entry.kind not in ("file", "folder"):
        raise PipelineError(
            f"{path}: refused, as {entry.name!r} is a {entry.kind}: expected files and folders alone"
        )
    return pure.parts or (".",)


def _wrapping_folders(path: Path, clips: list[tuple[str, ...]]) -> int:
    if not clips:
        raise PipelineError(
            f"{path}: holds no clip: expected one folder per label with audio files"
            f" ({', '.join(AUDIO_SUFFIXES)})"
        )
    wrap = int(all(len(parts) > 2 and parts[0] == clips[0][0] for parts in clips))
    for parts in clips:
        if len(parts) != wrap + 2:
            raise PipelineError(
                f"{path}: {'/'.join(parts)!r} does not lie in a label folder: expected"
                f" {'/'.join([*parts[:wrap], '<label>', parts[-1]])!r}; folders to leave out go into"
                " params.yaml: extract.exclude"
            )
    return wrap


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[_Entry]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield (_of_zip(archive, info) for info in archive.infolist())
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            yield _all_of_tar(archive)
    elif _first_bytes(path) == b"PK":
        raise zipfile.BadZipFile("its end is missing")
    else:
        raise PipelineError(
            f"{path} is neither a .zip nor a .tar.gz: check params.yaml: datasets.{path.name}.url"
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    mode = info.external_attr >> 16
    kind = "link" if stat.S_ISLNK(mode) else "folder" if info.is_dir() else "file"
    return _Entry(info.filename, info.file_size, kind, lambda: archive.open(info))


def _all_of_tar(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for info in archive:
        yield _of_tar(archive, info)
    # The checksum of a compressed tar stands at its very end, where tarfile does not look.
    while archive.fileobj is not None and archive.fileobj.read(1 << 20):
        pass


def _of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Entry:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "link"
    kind = kind if kind != "link" or info.issym() or info.islnk() else "device"

    def source() -> IO[bytes]:
        file = archive.extractfile(info)
        assert file is not None  # noqa: S101 - None for folders and links alone
        return file

    return _Entry(info.name, info.size, kind, source)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, *BAD_STREAM) as error:
        raise PipelineError(
            f"{path} is damaged: {error}: get it anew, whole, and run dvc repro -f download"
        ) from None
    except (RuntimeError, NotImplementedError, OSError, UnicodeError) as error:
        # A password, an unknown compression, a name that this file system refuses.
        raise PipelineError(f"{path} cannot be unpacked: {error}: pack it anew") from None
