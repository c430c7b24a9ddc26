"""Fetch an archive, from a server or from a path on this machine, and verify it.

If a download breaks off, its first part is kept. The next try, or the next run, asks only for the rest.
"""

import fcntl
import hashlib
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, RemoteDisconnected
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlparse

from pydantic import Field, field_validator

from pipeline.corpus import containers
from pipeline.errors import PipelineError
from pipeline.files import DATA, UNFINISHED, atomic_write, naming
from pipeline.needs import need_disk
from pipeline.params import Section, Text, project, shown
from pipeline.progress import Progress

if TYPE_CHECKING:
    from requests import Response

FOLDER = DATA / UNFINISHED
PAUSES = (1.0, 4.0, 15.0)  # seconds between the tries
TIMEOUT = 30.0  # seconds in which the server must send something
CHUNK = 1 << 16  # bytes
SHOWN = 60  # bytes of a file that is no archive
NO_HTTP = "the server does not answer as a web server does: check the URL and its port"
# In a URL: user and password, and the values in a query, which may be signatures. A password may contain @
# and slashes, so all before the last @ is hidden, unless the number of a port follows the first colon.
USER = re.compile(r"(?<=://)(?:[^/:\s]*:(?!\d+(?:[/?#\s]|$))\S*|[^/?#\s]*)(?=@)")
VALUE = re.compile(r"(?<=[?&])([^=?&\s]*=)?[^?&\s'\"]+")


class Archive(Section):
    """The section `datasets.<name>`: a published archive, or one on this machine."""

    url: Text | None  # an http(s) URL or a path
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")  # of the archive; None if unknown

    @field_validator("url")
    @classmethod
    def _http_or_path(cls, url: str | None) -> str | None:
        # In such a URL, one cannot tell where a password ends: it is not shown.
        if url and re.search(r"\s", url) and re.match(r"\s*https?://", url, re.IGNORECASE):
            raise ValueError("must have no spaces: write %20 for each")
        if url is not None and not _is_http_or_path(url):
            raise ValueError(f"must be an http(s) URL or a path, is {shown(without_secrets(url))}")
        return url


class _TemporaryError(Exception):
    """A try has failed, but the next one may succeed."""


class _MixedError(PipelineError):
    """What was put together of several answers is not the archive."""


def without_secrets(text: str) -> str:
    """Return `text` with asterisks for users, passwords, and values of queries in its URLs."""
    return VALUE.sub(r"\1***", USER.sub("***", text))


def local_path(url: str) -> Path | None:
    """Return the path that `url` is, or None if it is an http(s) URL."""
    if _scheme(url) in ("http", "https"):
        return None
    text = unquote(urlparse(url).path) if _scheme(url) == "file" else url
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - keeps an unknown ~user as it is
    # A queued experiment runs in a copy of the project, but a relative path starts at the project itself.
    return path.absolute() if path.exists() else project() / path


def _is_http_or_path(url: str) -> bool:
    try:
        return url != "" and ("://" not in url or _scheme(url) in ("http", "https", "file"))
    except ValueError:  # such as an IPv6 address that has no ]
        return False


def _scheme(url: str) -> str:
    return urlparse(url).scheme if "://" in url else ""


def fetch(archive: Archive, path: Path, *, name: str) -> str:
    """Write the archive to `path` and return its sha256.

    An http(s) URL is downloaded. If the error may be temporary, the download is tried again, and goes on
    where it broke. Any other URL is a path, whose file is copied. `path` appears when the archive is complete
    and its checksum is right.

    Args:
        archive: where the archive is, and its sha256 if you know it.
        path: the file to write.
        name: the name of the data set under `datasets` in params.yaml.

    Raises:
        PipelineError: `archive` has no URL, there is no such file, the server cannot be reached or does not
            have the file, what it sends is no archive, the checksum differs, the disk has too little space,
            or another process downloads the same.
    """
    key = f"datasets.{name}"
    if archive.url is None:
        raise PipelineError(
            f"params.yaml: {key}.url must be a URL or a path to a .zip or .tar.gz of audio files, is null:"
            f" set it in params.yaml, or run dvc exp run -S {key}.url=PATH"
        )
    source = local_path(archive.url)
    unfinished = FOLDER / f"download-{name}-{hashlib.sha256(archive.url.encode()).hexdigest()[:16]}"
    _remove_stale(name, keep=unfinished if source is None else None)
    if source is None:
        with _locked(unfinished) as part:
            digest = _download(archive, part, key)
            with atomic_write(path) as new:
                part.move(new)
    else:
        with atomic_write(path) as new:
            _copy(source, new, path, archive, key)
            digest = _verified(archive, new, key)
    return digest


def _copy(source: Path, new: Path, path: Path, archive: Archive, key: str) -> None:
    if not source.is_file():
        problem = f"there is no file {source}: correct the path"
        if source.is_dir():
            problem = "that is a folder: pack it into a .zip or .tar.gz"
        raise PipelineError(
            f"params.yaml: {key}.url must be a URL or the path of an archive, is {archive.url!r}: {problem}"
        )
    need_disk(path, source.stat().st_size, "download")
    with naming(path):
        shutil.copyfile(source, new)


def _verified(archive: Archive, path: Path, key: str, sent: str = "") -> str:
    """Return the sha256 of the file at `path`. Raises PipelineError if it is not the archive.

    `sent` says in a message how a server sent the file.
    """
    url = without_secrets(str(archive.url))
    if containers.kind(path) is None:
        with path.open("rb") as file:
            beginning = file.read(SHOWN)
        content = f"begins with {beginning!r}" if beginning else "is empty"
        is_local = local_path(str(archive.url)) is not None
        advice = "get a complete archive, or" if is_local else "open it in a browser, and"
        raise PipelineError(
            f"{url} is neither a .zip nor a .tar.gz, or is incomplete: it {content}{sent}: {advice} correct"
            f" params.yaml: {key}.url. If DVC has kept such a file from an earlier run, run dvc repro -f"
            " download"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if archive.sha256 not in (None, digest):
        raise PipelineError(
            f"{url}: sha256 is {digest}, expected {archive.sha256}: the archive is damaged, or somebody"
            " replaced it: run dvc repro to fetch it again, or if you trust it, set params.yaml:"
            f" {key}.sha256 to the new value"
        )
    return digest


# ------------------------------------------------------------------------------------- what has arrived


class _Part:
    """The first part of a download, and a file beside it with the server's name for this version of it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self._version = path.with_name(f"{path.name}.version")
        self.was_continued = False  # rather than downloaded in one piece

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def version(self) -> str:
        """The ETag or the date of what has arrived; "" if the server sent neither."""
        return self._version.read_text(encoding="utf-8") if self._version.exists() else ""

    def restart(self, version: str = "") -> None:
        """Drop what has arrived. `version` is that of what comes now."""
        self._file.truncate(0)
        self.was_continued = False
        self._version.write_text(version, encoding="utf-8")

    def append(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()

    def move(self, path: Path) -> None:
        """Move the file to `path`."""
        self._version.unlink(missing_ok=True)
        shutil.move(self.path, path)

    def remove(self) -> None:
        self._version.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[_Part]:
    """Yield what has arrived at `path`, which no other process can then open. Nothing is left if it is empty.

    Raises:
        PipelineError: another process has it open, or deletes it during the block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:  # the other process may have moved it since
            raise PipelineError(f"another process downloads {path}: wait until it ends, or stop it")
        part = _Part(path, file)
        try:
            yield part
        except FileNotFoundError:
            if os.fstat(file.fileno()).st_nlink:
                raise
            part.remove()
            raise PipelineError(
                f"{path} was deleted while it was downloaded: run the command again"
            ) from None
        finally:
            if path.exists() and not part.size:
                part.remove()


def _remove_stale(name: str, keep: Path | None) -> None:
    """Remove what has arrived of the data set `name` from other URLs, unless a process has it open."""
    form = re.compile(rf"download-{re.escape(name)}-[0-9a-f]{{16}}")
    for path in sorted(FOLDER.glob("download-*")):
        if form.fullmatch(path.name) and path != keep:
            with suppress(PipelineError), _locked(path) as part:
                part.remove()


def unfinished() -> list[Path]:
    """Return what has arrived of downloads that broke off, and with which no process goes on."""
    return [
        path
        for path in sorted(FOLDER.glob("download-*"))
        if path.suffix != ".version" and not _is_in_use(path)
    ]


def _is_in_use(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):  # another process may have moved it just now
        return True
    return False


# --------------------------------------------------------------------------------------------- download


def _download(archive: Archive, part: _Part, key: str) -> str:
    """Download what is missing of the archive, and return its sha256."""
    with suppress(_MixedError):
        return _download_once(archive, part, key)
    return _download_once(archive, part, key)  # from the start


def _download_once(archive: Archive, part: _Part, key: str) -> str:
    sent = _with_retries(archive, part, key)
    was_continued = part.was_continued
    try:
        return _verified(archive, part.path, key, sent)
    except PipelineError as error:
        part.restart()
        raise _MixedError(str(error)) if was_continued else error from None


def _with_retries(archive: Archive, part: _Part, key: str) -> str:
    """Download what is missing of the archive, and return how it was sent, for a message."""
    with Progress(0, "B", "download") as progress:
        for pause in PAUSES:
            with suppress(_TemporaryError):
                return _try(archive, part, key, progress)
            time.sleep(pause)
        try:
            return _try(archive, part, key, progress)
        except _TemporaryError as error:
            raise _unreachable(archive, part, key, error) from None


def _unreachable(archive: Archive, part: _Part, key: str, error: Exception) -> PipelineError:
    kept = ""
    if _can_continue(archive, part):
        kept = f"\n{part.size:,} bytes have arrived. The next dvc repro goes on from there"
    else:
        part.restart()
    return PipelineError(
        f"{without_secrets(str(archive.url))} cannot be fetched, after {len(PAUSES) + 1} tries: {error}{kept}"
        f"\nIf you are offline, fetch the archive on another machine and set params.yaml: {key}.url to its"
        " path, or run dvc repro --pull to get what a teammate has computed"
    )


def _can_continue(archive: Archive, part: _Part) -> bool:
    """Return whether bytes have arrived, and the server or the checksum can tell if others fit them."""
    return bool(part.size and (part.version or archive.sha256))


def _try(archive: Archive, part: _Part, key: str, progress: Progress) -> str:
    """Ask once for what is missing, and return how it was sent, for a message.

    Raises:
        _TemporaryError: the server is busy, or the connection broke.
        PipelineError: the server does not have the file, or the file is too large for the disk.
    """
    from requests import exceptions

    url = str(archive.url)
    if not _can_continue(archive, part):
        part.restart()
    try:
        return _request(url, part, key, progress)
    except exceptions.ChunkedEncodingError:
        raise _TemporaryError(f"the connection broke after {part.size:,} bytes") from None
    except (exceptions.ConnectionError, exceptions.Timeout) as error:
        raise _TemporaryError(_reason(error)) from None
    except (exceptions.RequestException, ValueError) as error:
        reason = f"cannot be fetched: {without_secrets(str(error))}"
        if isinstance(error, exceptions.InvalidURL) or not isinstance(error, exceptions.RequestException):
            reason = "is not a URL, or leads to none"  # the text of `error` may have parts of a password
        raise PipelineError(f"{without_secrets(url)} {reason}: check params.yaml: {key}.url") from None


def _reason(error: BaseException) -> str:
    """Return why there is no connection. The host is not named, since it may be a part of a password."""
    from requests.exceptions import ProxyError

    reason = ""
    cause: BaseException | None = error
    while cause is not None and not reason:
        match cause:
            case ProxyError():
                variables = "the variables HTTP_PROXY and HTTPS_PROXY"
                reason = f"the proxy cannot be reached, or refuses: check {variables}"
            case TimeoutError():
                reason = f"no answer in {TIMEOUT:.0f} seconds"
            case socket.gaierror():
                reason = "the name of its server is not known"
            case ssl.SSLError():
                reason = "the server does not speak https, or its certificate is not valid"
            case OSError(strerror=str(text)):
                reason = f"cannot connect to its server: {text}"
            case RemoteDisconnected():
                reason = "the server closed the connection"
            case HTTPException():
                reason = NO_HTTP
        cause = cause.__cause__ or cause.__context__
    return reason or "the connection broke"


def _request(url: str, part: _Part, key: str, progress: Progress) -> str:
    import requests

    start = part.size
    # Ranges count the bytes of the file itself, and so does its sha256.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if start and part.version:
        headers["If-Range"] = part.version
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if start and response.status_code in (206, 416):
            if not (_is_complete(response, start) or _continues(response, part)):
                part.restart()
                return _request(url, part, key, progress)
            part.was_continued = True
        elif response.status_code == 200:
            part.restart(_version(response))
        else:
            raise _refused(response, url, key)
        if response.status_code != 416:
            _receive(response, part, progress)
        return _how_sent(response)


def _receive(response: "Response", part: _Part, progress: Progress) -> None:
    """Append the body of the answer to what has arrived."""
    start, length = part.size, _length(response)
    if length is not None:
        need_disk(part.path, length, "download")
    progress.restart(start, 0 if length is None else start + length)
    if start:
        progress.note(f"{start:,} B had arrived before")
    # A server may call a .tar.gz an encoded .tar, which requests would decode.
    response.raw.headers.pop("Content-Encoding", None)
    try:
        for content in response.iter_content(CHUNK):
            part.append(content)
            progress.update(len(content))
    except ValueError:  # a chunk of negative length
        raise _TemporaryError(NO_HTTP) from None
    total = _total(response)
    if total is not None and part.size < total:
        raise _TemporaryError(f"the server sent only {part.size:,} of {total:,} bytes")


def _length(response: "Response") -> int | None:
    """Return how many bytes the server says it sends, or None if it does not say so, or nonsense."""
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _range(response: "Response") -> re.Match[str] | None:
    return re.fullmatch(
        r"bytes (?:(?P<start>\d{1,18})-\d{1,18}|\*)/(?:(?P<total>\d{1,18})|\*)",
        response.headers.get("Content-Range", "").strip(),
    )


def _total(response: "Response") -> int | None:
    """Return how many bytes the whole file has, if the server says so beside a part of it."""
    content_range = _range(response) if response.status_code != 200 else None
    return int(content_range["total"]) if content_range and content_range["total"] else None


def _is_complete(response: "Response", size: int) -> bool:
    """Return whether there is no more to send because all `size` bytes of the file have arrived."""
    return response.status_code == 416 and _total(response) == size


def _continues(response: "Response", part: _Part) -> bool:
    """Return whether the server sends what comes after `part`, of the same version."""
    content_range = _range(response)
    return (
        response.status_code == 206
        and content_range is not None
        and content_range["start"] == str(part.size)
        # A server may leave out the date, but not the ETag.
        and _version(response) in ({part.version} if part.version.startswith('"') else {part.version, ""})
    )


def _version(response: "Response") -> str:
    """Return the file's ETag if it changes with each byte, else its date, or "" if it has neither."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _refused(response: "Response", url: str, key: str) -> Exception:
    status = response.status_code
    answer = f"{status} {response.reason}"
    if status >= 500 or status in (408, 429):
        return _TemporaryError(f"the server answers {answer}")
    return PipelineError(
        f"the server answers {answer}, expected 200 and the archive, for {without_secrets(url)}: check"
        f" params.yaml: {key}.url"
    )


def _how_sent(response: "Response") -> str:
    names = ("Content-Type", "Content-Encoding")
    facts = [f"{name} {response.headers[name]}" for name in names if name in response.headers]
    facts += [f"from {without_secrets(response.url)}"] if response.history else []
    return f", sent with {', '.join(facts)}" if facts else ""
