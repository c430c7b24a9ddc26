"""Downloads from a real server on loopback, which misbehaves, and copies of local files."""

import fcntl
import hashlib
import io
import os
import random
import re
import resource
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from requests import Response

from pipeline.corpus import download
from pipeline.corpus.download import FOLDER, Archive, fetch, unfinished, without_secrets
from pipeline.errors import PipelineError
from pipeline.progress import Progress
from tests.damage import fuzz
from tests.fileserver import Answer, FileServer, serving
from tests.project import ROOT


def _archive(seed: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("yes/a.wav", np.random.default_rng(seed).bytes(300_000))
    return content.getvalue()


CONTENT, OTHER = _archive(0), _archive(1)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 200_000
ARRIVED = CUT // download.CHUNK * download.CHUNK  # of a body that is cut there
DATE = "Tue, 15 Nov 1994 12:45:26 GMT"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the project's folder be `tmp_path`, and wait for nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))


def _fetch(url: str | None, path: Path, sha256: str | None = SHA256) -> str:
    return fetch(Archive(url=url, sha256=sha256), path, name="own")


def _files() -> dict[str, int]:
    """Return the files in the project, and how many bytes they have."""
    return {path.as_posix(): path.stat().st_size for path in sorted(Path().rglob("*")) if path.is_file()}


def _unfinished() -> list[int]:
    """Return the lengths of what has arrived of downloads."""
    return [path.stat().st_size for path in FOLDER.glob("download-*") if not path.suffix]


# --------------------------------------------------------------------------------------------- download


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
def test_a_download_is_complete_and_its_sha256_is_returned(
    server: FileServer, tmp_path: Path, sha256: str | None
) -> None:
    """The file has the served bytes, no other file is left, and the sha256 is returned, known or not."""
    path = tmp_path / "archive" / "own"
    assert _fetch(server.url, path, sha256) == SHA256
    assert path.read_bytes() == CONTENT
    assert _files() == {"archive/own": len(CONTENT)}


@pytest.mark.parametrize("answer", [Answer(cut=1000), Answer(503, b""), Answer(429, b""), Answer(408, b"")])
def test_a_temporary_error_is_tried_again(server: FileServer, tmp_path: Path, answer: Answer) -> None:
    """After a broken connection or a busy server, the next try succeeds."""
    server.answers = [answer, answer]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(404, b"no"), "404 Not Found"),
        (Answer(401, b"no"), "401 Unauthorized"),
        (Answer(204, b""), "204 No Content"),
        (Answer(304, b""), "304 Not Modified"),
        (Answer(302, b""), "302 Found"),
        (Answer(202, CONTENT), "202 Accepted"),
        (Answer(206, CONTENT), "206 Partial Content"),
        (Answer(416, b""), "416 Requested Range"),
    ],
)
def test_another_answer_than_the_file_is_not_tried_again(
    server: FileServer, tmp_path: Path, answer: Answer, message: str
) -> None:
    """It is an error at once, with the URL and the parameter to check, and nothing is left."""
    server.answers = [answer] * 9
    expected = rf"answers {message}.*clips\.zip: check params\.yaml: datasets\.own\.url"
    with pytest.raises(PipelineError, match=expected):
        _fetch(server.url, tmp_path / "own")
    assert len(server.requests) == 1
    assert _files() == {}


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (
            b"<html>Sign in</html>",
            {"Content-Type": "text/html"},
            "begins with b'<html>.*Content-Type text/html",
        ),
        (b"<html>" * 2000, {"Content-Length": None}, r"begins with b'(<html>){10}'"),
        (b"", {}, "is empty"),
        (CONTENT[:100_000], {"Content-Length": None}, "is incomplete: it begins with b.PK"),
        (CONTENT, {"Content-Length": "1000"}, "is incomplete: it begins with b.PK"),
    ],
    ids=["page", "long page", "empty", "cut", "too short"],
)
@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
def test_what_is_no_archive_is_refused(
    server: FileServer,
    tmp_path: Path,
    *,
    body: bytes,
    headers: dict[str, str | None],
    message: str,
    sha256: str | None,
) -> None:
    """The message shows its beginning and never advises to set its sha256; it is not kept."""
    server.answers = [Answer(200, body, headers)]
    with pytest.raises(PipelineError, match=message) as error:
        _fetch(server.url, tmp_path / "own", sha256)
    assert "dvc repro -f download" in str(error.value)
    assert "sha256" not in str(error.value)
    assert _files() == {}


def test_a_redirect_is_followed_and_named(server: FileServer, tmp_path: Path) -> None:
    """The page that one is sent to, without the values of its query, is in the message."""
    elsewhere = Answer(302, b"", {"Location": "/login?token=secret"})
    server.answers = [elsewhere]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    server.answers = [elsewhere, Answer(200, b"<html>")]
    with pytest.raises(PipelineError, match=r"from http://.*/login\?token=\*\*\*: ") as error:
        _fetch(server.url, tmp_path / "own")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("location", ["http://[", "ftp://host/x", "http://host:x/", "/clips.zip"])
def test_a_redirect_to_nowhere_is_an_error(server: FileServer, tmp_path: Path, location: str) -> None:
    """A bad URL, another protocol and a circle are not tried again."""
    server.answers = [Answer(302, b"", {"Location": location})] * 99
    with pytest.raises(PipelineError, match=r"check params\.yaml: datasets\.own\.url"):
        _fetch(server.url, tmp_path / "own")
    assert len(server.requests) in (1, 31)


@pytest.mark.parametrize("length", ["abc", "-5", "", "1e5", None])
def test_a_senseless_length_is_ignored(
    server: FileServer, tmp_path: Path, length: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file ends when the connection ends, and the log has the bytes that arrived."""
    server.answers = [Answer(headers={"Content-Length": length})]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert capsys.readouterr().out.startswith(f"download: {len(CONTENT):,} B in ")


def test_a_file_that_is_called_encoded_stays_as_it_is(server: FileServer, tmp_path: Path) -> None:
    """Some servers say of each .gz that it is encoded. Its sha256 is that of the file itself."""
    server.answers = [Answer(headers={"Content-Encoding": "gzip"})]
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("url", ["http://", "http://a..b/a.zip", f"http://{'a' * 70}.com/a.zip"])
def test_an_invalid_url_is_an_error(tmp_path: Path, url: str) -> None:
    """A URL without a host, or with one that cannot be, is an error that names the parameter."""
    message = rf"^{re.escape(url)} is not a URL, or leads to none: check params\.yaml: datasets\.own\.url$"
    with pytest.raises(PipelineError, match=message):
        _fetch(url, tmp_path / "own")


def test_a_refused_connection_says_what_to_do_offline(tmp_path: Path) -> None:
    """After four tries, the message gives two ways to go on, and nothing is left."""
    with pytest.raises(PipelineError, match=r"after 4 tries: .*refused(.|\n)*dvc repro --pull"):
        _fetch("http://127.0.0.1:9/clips.zip", tmp_path / "own")
    assert _files() == {}


def test_a_wrong_checksum_is_not_tried_again(server: FileServer, tmp_path: Path) -> None:
    """The message gives both checksums; one request was made, and the old archive is unchanged."""
    path = tmp_path / "own"
    path.write_bytes(b"old")
    with pytest.raises(PipelineError, match=f"sha256 is {SHA256}, expected {'0' * 64}"):
        _fetch(server.url, path, "0" * 64)
    assert len(server.requests) == 1
    assert path.read_bytes() == b"old"
    assert _files() == {"own": 3}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://me:{'secret'}@host/a.zip", "https://***@host/a.zip"),
        (f"https://me:{'sec@ret'}@host:80/a.zip", "https://***@host:80/a.zip"),
        (f"https://me:{'sec/ret'}@host/a.zip", "https://***@host/a.zip"),
        (f"https://me:{'sec@re/t'}@host/a.zip", "https://***@host/a.zip"),
        (f"https://me:{'sec/r@e/t'}@host:80/a.zip", "https://***@host:80/a.zip"),
        (f"https://me:{'/secret'}@host/a.zip", "https://***@host/a.zip"),
        ("https://me@host/a@b.zip", "https://***@host/a@b.zip"),
        ("https://host:80/a@b.zip", "https://host:80/a@b.zip"),
        ("https://host/a?X-Amz-Signature=secret&v=2", "https://host/a?X-Amz-Signature=***&v=***"),
        ("https://host/a?secret", "https://host/a?***"),
        ("exceeded with url: /a?k=secret (Caused", "exceeded with url: /a?k=*** (Caused"),
    ],
)
def test_secrets_in_a_url_are_not_shown(url: str, shown: str) -> None:
    """Users, passwords, and values of queries are replaced by asterisks."""
    assert without_secrets(url) == shown


def test_why_there_is_no_connection_is_said_plainly(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is not that of a library, and does not name the host, which may be a part of a password."""
    nobody = f"http://me:{'p@nobody.invalid/word'}@host/a.zip"
    refused = "cannot connect to its server: Connection refused\n"
    _check_reason(tmp_path, "http://127.0.0.1:9/a.zip", refused)
    _check_reason(tmp_path, nobody, "the name of its server is not known\n")
    _check_reason(tmp_path, server.url.replace("http:", "https:"), "the server does not speak https, or its")
    with monkeypatch.context() as patch:
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        _check_reason(tmp_path, "http://nobody.invalid/a.zip", "the proxy cannot be reached, or refuses: ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("pipeline.corpus.download.TIMEOUT", 0.3)
        port = silent.getsockname()[1]
        _check_reason(tmp_path, f"http://127.0.0.1:{port}/a.zip", "no answer in ")


OK = b"HTTP/1.1 200 OK\r\n"
NO_WEB_SERVER = "the server does not answer as a web server does: check the URL and its port\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", NO_WEB_SERVER),
        (b"\x15\3\1\0\2\2\x16", NO_WEB_SERVER),
        (OK + b"X: 1\r\n" * 200 + b"\r\n", NO_WEB_SERVER),
        (OK + b"X: " + bytes(70_000) + b"\r\n\r\n", NO_WEB_SERVER),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n", NO_WEB_SERVER),
        (b"", "the server closed the connection\n"),
    ],
    ids=["ssh", "tls", "many headers", "long header", "negative chunk", "nothing"],
)
def test_an_answer_that_is_not_http_is_said_plainly(tmp_path: Path, answer: bytes, reason: str) -> None:
    """It is not called a closed connection. A wrong port may be the cause."""

    class Answering(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        _check_reason(tmp_path, f"http://127.0.0.1:{server.server_address[1]}/a.zip", reason)
        server.shutdown()


def _check_reason(folder: Path, url: str, reason: str) -> None:
    with pytest.raises(PipelineError) as error:
        _fetch(url, folder / "own")
    assert f"{without_secrets(url)} cannot be fetched, after 4 tries: {reason}" in str(error.value)
    assert "Pool" not in str(error.value)
    assert "nobody" not in str(error.value).replace(without_secrets(url), "")


@pytest.mark.parametrize("port", [9, 0, 99999])
@pytest.mark.parametrize(
    "answer", [Answer(404, b""), Answer(500, b""), Answer(200, b"<html>"), Answer(cut=0)]
)
def test_no_message_has_a_secret(server: FileServer, tmp_path: Path, port: int, answer: Answer) -> None:
    """Whatever goes wrong, neither the password nor the signature is printed."""
    server.answers = [answer] * 4
    port = port or server.server_port
    with pytest.raises(PipelineError) as error:
        _fetch(f"http://me:{'secret'}@127.0.0.1:{port}/clips.zip?signature=secret", tmp_path / "own")
    assert "secret" not in str(error.value)
    assert f"http://***@127.0.0.1:{port}/clips.zip?signature=***" in str(error.value)


# ----------------------------------------------------------------------------- what is missing of a download


def _break(server: FileServer, sha256: str | None = SHA256) -> None:
    """Fetch from a server that breaks off, until the tries are used up."""
    server.answers = [Answer(cut=CUT), *[Answer(503, b"")] * 3]
    with pytest.raises(PipelineError, match="after 4 tries"):
        _fetch(server.url, Path("own"), sha256)
    server.requests.clear()


def test_a_killed_download_goes_on(server: FileServer, tmp_path: Path) -> None:
    """After SIGKILL, what had arrived is used by the next run, and nothing else is left."""
    server.answers = [Answer(pause=0.2)]
    code = f"""if True:
        from pathlib import Path
        from pipeline.corpus.download import Archive, fetch
        fetch(Archive(url={server.url!r}, sha256=None), Path("archive/own"), name="own")
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env) as process:
        while not sum(_unfinished()):
            time.sleep(0.01)
        process.kill()
    (arrived,) = _unfinished()
    assert 0 < arrived < len(CONTENT)
    assert _fetch(server.url, tmp_path / "archive/own", None) == SHA256
    assert [request["Range"] for request in server.requests] == [None, f"bytes={arrived}-"]
    assert _files() == {"archive/own": len(CONTENT)}


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
@pytest.mark.parametrize(
    ("version", "if_range"), [({"ETag": '"1"'}, '"1"'), ({"ETag": 'W/"1"', "Last-Modified": DATE}, DATE)]
)
def test_a_broken_download_goes_on(
    server: FileServer,
    tmp_path: Path,
    *,
    sha256: str | None,
    version: dict[str, str | None],
    if_range: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The next run asks for the rest of the same version, counts only the rest, and leaves nothing."""
    server.version = version
    _break(server, sha256)
    assert _unfinished() == [ARRIVED]
    capsys.readouterr()
    assert _fetch(server.url, tmp_path / "own", sha256) == SHA256
    (request,) = server.requests
    assert request["Range"] == f"bytes={ARRIVED}-"
    assert request["If-Range"] == if_range
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"download: {ARRIVED:,} B had arrived before"
    assert lines[1].startswith(f"download: {len(CONTENT) - ARRIVED:,} B in ")
    assert _files() == {"own": len(CONTENT)}


def test_a_broken_download_says_that_it_goes_on(server: FileServer, tmp_path: Path) -> None:
    """The message has the bytes that are kept. Each try goes on from where the last one ended."""
    server.answers = [Answer(cut=70_000)] * 4
    with pytest.raises(PipelineError, match=r"262,144 bytes have arrived\. The next dvc repro goes on"):
        _fetch(server.url, tmp_path / "own")
    ranges = [request["Range"] for request in server.requests]
    assert ranges == [None, "bytes=65536-", "bytes=131072-", "bytes=196608-"]


def test_without_a_version_only_the_sha256_lets_a_download_go_on(server: FileServer, tmp_path: Path) -> None:
    """If neither the server nor params.yaml can tell versions apart, it starts again."""
    server.version = {"ETag": 'W/"1"'}
    _break(server, None)
    assert _files() == {}
    _break(server)
    assert _unfinished() == [ARRIVED]
    _fetch(server.url, tmp_path / "own")
    assert [(request["Range"], request["If-Range"]) for request in server.requests] == [
        (f"bytes={ARRIVED}-", None)
    ]


@pytest.mark.parametrize(
    "answers",
    [
        [Answer(200, CONTENT)],
        [Answer(416, b"")],
        [Answer(206, CONTENT[5:], {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"})],
        [Answer(206, CONTENT[ARRIVED:], {"ETag": '"1"'})],
        [Answer(416, b"", {"Content-Range": f"bytes */{ARRIVED}"})],
        [
            Answer(
                206,
                CONTENT[ARRIVED : ARRIVED + 1000],
                {"ETag": '"1"', "Content-Range": f"bytes {ARRIVED}-{ARRIVED + 999}/{len(CONTENT)}"},
            )
        ],
    ],
    ids=["no ranges", "416", "other range", "no range named", "wrong size", "less"],
)
def test_a_server_may_answer_a_request_for_the_rest_in_other_ways(
    server: FileServer, tmp_path: Path, answers: list[Answer]
) -> None:
    """The file is the same in the end."""
    _break(server)
    server.answers = answers
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert (tmp_path / "own").read_bytes() == CONTENT
    assert _files() == {"own": len(CONTENT)}


def test_another_version_starts_again(server: FileServer, tmp_path: Path) -> None:
    """If the file on the server has changed, the new one is fetched whole, and a mixture never."""
    _break(server, None)
    server.content, server.version = OTHER, {"ETag": '"2"'}
    _fetch(server.url, tmp_path / "own", None)
    assert (tmp_path / "own").read_bytes() == OTHER
    _break(server, None)
    server.content = CONTENT
    rest = {"ETag": '"3"', "Content-Range": f"bytes {ARRIVED}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.answers = [Answer(206, CONTENT[ARRIVED:], rest)]  # which ignores If-Range
    _fetch(server.url, tmp_path / "own", None)
    assert (tmp_path / "own").read_bytes() == CONTENT


def test_a_mixture_of_two_versions_is_fetched_once_more(server: FileServer, tmp_path: Path) -> None:
    """If the server cannot tell versions apart, the sha256 does. A second wrong one is an error."""
    server.version = {}
    server.content = OTHER
    _break(server)
    server.content = CONTENT
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert [request["Range"] for request in server.requests] == [f"bytes={ARRIVED}-", None]
    server.content = OTHER
    _break(server)
    with pytest.raises(PipelineError, match=f"expected {SHA256}"):
        _fetch(server.url, tmp_path / "other")
    assert len(server.requests) == 2
    assert _files() == {"own": len(CONTENT)}


@pytest.mark.parametrize("sha256", [SHA256, None], ids=["checked", "unchecked"])
@fuzz(60)
def test_however_a_server_misbehaves_the_file_is_whole_or_absent(
    tmp_path: Path, sha256: str | None, generator: random.Random
) -> None:
    """Some answers are wrong, and the file on the server may change. What is fetched is a file that it has.

    Without a sha256, the server has to say truly which version of the file it sends.
    """
    path, fetched = tmp_path / "own", False
    for file in (path, *FOLDER.glob("download-*")):
        file.unlink(missing_ok=True)
    with serving(CONTENT) as server:
        server.has_ranges = generator.random() < 0.8
        for _ in range(3):
            if generator.random() < 0.2:
                server.content, server.version = OTHER, {"ETag": '"2"'}
            if sha256 and generator.random() < 0.5:
                versions = (("ETag", None), ("ETag", ""), ("ETag", 'W/"1"'), ("Last-Modified", DATE))
                name, value = generator.choice(versions)
                server.version = {name: value}
            server.answers = [_wrong_answer(generator) for _ in range(generator.randrange(9))]
            with suppress(PipelineError):
                fetch_sha256 = _fetch(server.url, path, sha256)
                fetched = True
                assert fetch_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert path.exists() == fetched
            if fetched:
                assert path.read_bytes() in ([CONTENT] if sha256 else [CONTENT, OTHER])
        server.answers, server.content, server.version = [], CONTENT, {"ETag": '"1"'}
        assert _fetch(server.url, path, sha256) == SHA256


def _wrong_answer(generator: random.Random) -> Answer:
    match generator.choice(("cut", "cut", "cut", "status", "body", "length", "range", "any range")):
        case "cut":
            return Answer(cut=generator.randrange(len(CONTENT)))
        case "status":
            return Answer(generator.choice((202, 204, 206, 304, 403, 404, 408, 416, 429, 500, 503)), b"")
        case "body":
            return Answer(200, generator.choice((b"", b"<html>", b"PK\5\6", CONTENT[: len(CONTENT) // 2])))
        case "length":
            length = generator.choice(("abc", "-5", "0", "1e5", "1000", str(10**9), str(10**30), None))
            return Answer(headers={"Content-Length": length})
        case "range":
            start = generator.choice(("bytes 0", "bytes 5", "bytes", "", "bytes 10000000000"))
            return Answer(headers={"Content-Range": f"{start}-9/{generator.choice((9, '*', len(CONTENT)))}"})
        case _:
            return Answer(headers={"Content-Range": None, "ETag": generator.choice((None, "", "W/x"))})


def test_a_download_that_was_complete_but_not_moved_is_used(server: FileServer, tmp_path: Path) -> None:
    """A run that was killed after the last byte has nothing left to fetch."""
    _break(server)
    (part,) = (path for path in FOLDER.iterdir() if not path.suffix)
    part.write_bytes(CONTENT)
    assert _fetch(server.url, tmp_path / "own") == SHA256
    assert len(server.requests) == 1
    assert _files() == {"own": len(CONTENT)}


def test_other_downloads_of_a_data_set_are_removed(server: FileServer, tmp_path: Path) -> None:
    """With another URL, or a path, what arrived from the old one is of no use; other data sets keep it."""
    _break(server)
    other = FOLDER / f"download-own-2-{'0' * 16}"
    other.write_bytes(b"of another data set")
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    server.answers = [Answer(404, b"")]
    with pytest.raises(PipelineError, match="404"):
        _fetch(f"{server.url}?v=2", tmp_path / "own")
    assert _unfinished() == [19]
    _break(server)
    _fetch("clips.zip", tmp_path / "own")
    assert _unfinished() == [19]


def test_two_processes_do_not_download_the_same(server: FileServer, tmp_path: Path) -> None:
    """The second one says so, and changes nothing."""
    _break(server)
    (part,) = (path for path in FOLDER.iterdir() if not path.suffix)
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PipelineError, match="another process downloads"):
            _fetch(server.url, tmp_path / "own")
        server.answers = [Answer(404, b"")]
        with pytest.raises(PipelineError, match="404"):
            _fetch(f"{server.url}?v=2", tmp_path / "own")
    assert len(server.requests) == 1
    assert _unfinished() == [ARRIVED]
    assert _fetch(server.url, tmp_path / "own") == SHA256


def test_a_download_that_goes_on_is_not_called_broken(server: FileServer) -> None:
    """What another process downloads now is no file to delete."""
    _break(server)
    (part,) = unfinished()
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert unfinished() == []
    assert unfinished() == [part]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_download_that_is_deleted_meanwhile_is_named(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """One message says so, nothing is left, and the next run fetches the whole file."""
    receive = download._receive

    def receive_and_delete(response: Response, part: download._Part, progress: Progress) -> None:
        receive(response, part, progress)
        if what == "file":
            part.path.unlink()
        else:
            shutil.rmtree(FOLDER)

    with monkeypatch.context() as patch:
        patch.setattr(download, "_receive", receive_and_delete)
        message = r"download-own-\w+ was deleted while it was downloaded: run the command again"
        with pytest.raises(PipelineError, match=message):
            _fetch(server.url, tmp_path / "own")
    assert _files() == {}
    assert _fetch(server.url, tmp_path / "own") == SHA256


# ------------------------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize("is_local", [True, False])
def test_an_archive_larger_than_the_free_space_is_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_local: bool
) -> None:
    """The message has the path, and how much is needed and free. Nothing is written."""
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    message = r"download needs 300\.1 kB for .*own.*, but its disk has 1\.0 kB free"
    with pytest.raises(PipelineError, match=message):
        _fetch("clips.zip" if is_local else server.url, tmp_path / "own")
    assert _files() == {"clips.zip": len(CONTENT)}


@pytest.mark.parametrize("is_local", [True, False])
def test_a_full_disk_names_the_file(server: FileServer, tmp_path: Path, *, is_local: bool) -> None:
    """It names the file that is written, and not the source. What has arrived is kept."""
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            _fetch("clips.zip" if is_local else server.url, tmp_path / "own")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "clips.zip" not in str(error.value)
    assert "own" in error.value.filename
    assert not (tmp_path / "own").exists()
    assert _unfinished() == ([] if is_local else [CUT])
    assert _fetch("clips.zip" if is_local else server.url, tmp_path / "own") == SHA256


# ------------------------------------------------------------------------------------------------ local files


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_is_copied(tmp_path: Path, form: str) -> None:
    """The file at a path or a file URL, with a space in it, is copied."""
    source = tmp_path / "my clips.zip"
    source.write_bytes(CONTENT)
    assert (
        _fetch(form.format(source).replace(" ", "%20" if "//" in form else " "), tmp_path / "own") == SHA256
    )
    assert (tmp_path / "own").read_bytes() == CONTENT


def test_a_relative_path_means_the_same_in_a_queued_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In DVC's copy of the project, in .dvc/tmp, a path is still relative to the project."""
    (tmp_path / "clips.zip").write_bytes(CONTENT)
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert _fetch("../clips.zip", copy / "own") == SHA256


@pytest.mark.parametrize("url", [None, "nowhere.zip", "/", "~nobody/clips.zip", "a:b.zip"])
def test_a_path_without_a_file_is_an_error(tmp_path: Path, url: str | None) -> None:
    """No URL, a missing file and a folder are errors that name the parameter."""
    with pytest.raises(PipelineError, match=r"params\.yaml: datasets\.own\.url must be a URL or"):
        _fetch(url, tmp_path / "own")


def test_a_folder_is_to_be_packed(tmp_path: Path) -> None:
    """The path of a folder of clips is an error that says what to do with it."""
    with pytest.raises(PipelineError, match=r"that is a folder: pack it into a \.zip or \.tar\.gz"):
        _fetch(f"{tmp_path}", tmp_path / "own")


def test_a_local_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    """It is not copied."""
    (tmp_path / "page.zip").write_text("<html>moved</html>")
    message = r"page\.zip is neither a \.zip nor a \.tar\.gz.*b'<html>moved.*: get a complete archive, or"
    with pytest.raises(PipelineError, match=message):
        _fetch("page.zip", tmp_path / "own", None)
    assert not (tmp_path / "own").exists()
