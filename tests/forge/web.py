"""A web server on this machine that counts what it sends: of a file, or of a directory. A defect is one argument."""

from __future__ import annotations

import http.server
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Answer = Callable[["Handler", bytes, int, int], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with one range: of one file, whatever its name, or of the files of a directory."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server
    size = 0  # of what is asked for

    def do_GET(self) -> None:
        server = self.server
        file = server.file(self.path)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.size = server.size_of(file)
        begin, end = (int(found[1]), int(found[2]) + 1) if found else (0, self.size)
        with server.lock:
            server.asked.append((begin, end))
            server.paths.append(self.path)
            server.headers.append(dict(self.headers))
        if file is None:
            self.give(404)
            return
        begin, end = min(begin, self.size), min(end, self.size)
        data = server.part(begin, end, file) if found or server.answer is None else b""
        (server.answer or sound)(self, data, begin, end)

    def give(self, status: int, body: bytes = b"", **headers: str) -> None:
        """One whole answer."""
        self.send_response(status)
        headers = {"Content_Length": str(len(body)), "Content_Type": "application/octet-stream"} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with self.server.lock:
            self.server.sent += len(body)
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:  # the other side has heard enough
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass


def sound(handler: Handler, data: bytes, begin: int, end: int, **headers: str) -> None:
    size = handler.size
    if begin == end:
        handler.give(416, Content_Range=f"bytes */{size}")
        return
    handler.give(206, data, **{"Content_Range": f"bytes {begin}-{end - 1}/{size}", "ETag": '"1"'} | headers)


class Server(http.server.ThreadingHTTPServer):
    """Serves a file, bytes, or what lies in a directory.

    asked, paths: the ranges of all requests, and what was asked for. sent: bytes of all bodies.
    """

    daemon_threads = True
    request_queue_size = 64
    answer: Answer | None = None

    def __init__(self, content: Path | bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.size = self.size_of(content)
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0

    def file(self, path: str) -> Path | bytes | None:
        """What a request means."""
        if isinstance(self.content, bytes) or not self.content.is_dir():
            return self.content
        name = unquote(path.partition("?")[0]).removeprefix("/")
        file = self.content / name
        return file if "/" not in name and name not in ("", "..") and file.is_file() else None

    @staticmethod
    def size_of(content: Path | bytes | None) -> int:
        if content is None or (isinstance(content, Path) and content.is_dir()):
            return 0
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    @staticmethod
    def part(begin: int, end: int, content: Path | bytes) -> bytes:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    @property
    def url(self) -> str:
        return f"{self.root}model.pth"

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # connections that the client has closed
        pass


@contextmanager
def serve(content: Path | bytes, answer: Answer | None = None) -> Iterator[Server]:
    server = Server(content)
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
