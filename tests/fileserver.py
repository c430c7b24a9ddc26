"""A real HTTP server on loopback that serves one file, with range requests, and misbehaves on demand."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """How to answer a request. By default the file is sent, or the part of it that is asked for."""

    status: int = 200
    body: bytes | None = None  # instead of the file
    headers: Mapping[str, str | None] = field(default_factory=dict)  # None: this header is not sent
    cut: int | None = None  # the connection is closed after so many bytes of the body
    pause: float = 0.0  # seconds before each tenth of the body


class FileServer(ThreadingHTTPServer):
    """Serves `content`. The next requests get the `answers`, and later ones the file."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.version: dict[str, str | None] = {"ETag": '"1"'}
        self.has_ranges = True
        self.answers: list[Answer] = []
        self.requests: list[Message] = []  # the headers of those that were received
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/clips.zip"

    def file(self, asked: Message) -> tuple[int, dict[str, str | None], bytes]:
        """Return status, headers and body for a request with the headers `asked`."""
        match = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
        # By RFC 9110, a weak ETag, which begins with W, is no name for the bytes.
        names = [None, *(name for name in self.version.values() if name and not name.startswith("W"))]
        if not match or not self.has_ranges or asked.get("If-Range") not in names:
            return 200, self.version, self.content
        start, size = int(match[1]), len(self.content)
        if start >= size:
            return 416, {"Content-Range": f"bytes */{size}"}, b""
        content_range = f"bytes {start}-{size - 1}/{size}"
        return 206, {**self.version, "Content-Range": content_range}, self.content[start:]


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.requests.append(self.headers)
        answer = self.server.answers.pop(0) if self.server.answers else Answer()
        status, headers, body = answer.status, dict[str, str | None](), answer.body
        if body is None:
            status, headers, body = self.server.file(self.headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers, **answer.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        body = body[: answer.cut]
        step = max(1, len(body) // 10)
        with suppress(ConnectionError):  # the client may have enough
            for start in range(0, len(body), step):
                time.sleep(answer.pause)
                self.wfile.write(body[start : start + step])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve `content` during the block."""
    with FileServer(content) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
