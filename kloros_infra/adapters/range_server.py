"""A few files over HTTP on loopback, in any pieces (RFC 9110, section 14): for a tool that takes nothing but URLs.

Nobody who does not know its URL gets anything: paths begin with a word that was thrown for this server alone. It is
there while the block runs.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")
_PIECE_BYTES = 2**20
# Whoever connects and asks nothing must not keep the server.
_IDLE_S = 10.0


class RangeServer:
    """Where files are served; see `serving`."""

    def __init__(self, files: Sequence[Path], address: tuple[str, int]) -> None:
        self._word = secrets.token_urlsafe(16)
        self._base = f"http://{address[0]}:{address[1]}"
        self.paths = {self._path(file): file for file in files}

    def url(self, file: Path) -> str:
        """Give a file's URL."""
        return f"{self._base}{self._path(file)}"

    def _path(self, file: Path) -> str:
        return f"/{self._word}/{quote(file.name)}"


@contextmanager
def serving(files: Sequence[Path]) -> Iterator[RangeServer]:
    """Serve these files, by their names, on a free port of 127.0.0.1."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as http:
        server = RangeServer(files, ("127.0.0.1", http.server_port))
        http.RequestHandlerClass = _handler_of(server)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def _handler_of(server: RangeServer) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"paths": server.paths})


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    paths: dict[str, Path]

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def log_message(self, *_: object) -> None:
        """Keep quiet: every request is one that we asked for."""

    def _answer(self, *, has_body: bool) -> None:
        file = self.paths.get(self.path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        asked = _RANGE.fullmatch(self.headers.get("Range") or "")
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            # Another unit or several ranges count as none, as they may.
            piece = range(size) if asked is None else _piece(asked, size)
            if piece is None:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self._head(0, f"bytes */{size}")
                return
            self.send_response(HTTPStatus.OK if asked is None else HTTPStatus.PARTIAL_CONTENT)
            self._head(len(piece), None if asked is None else f"bytes {piece.start}-{piece.stop - 1}/{size}")
            if has_body:
                self._copy(stream, piece)

    def _head(self, length: int, content_range: str | None) -> None:
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def _copy(self, stream: BinaryIO, piece: range) -> None:
        stream.seek(piece.start)
        left = len(piece)
        while left:
            data = stream.read(min(left, _PIECE_BYTES))
            self.wfile.write(data)
            left -= len(data)


def _piece(asked: re.Match[str], size: int) -> range | None:
    """Read a range's bounds, both inclusive; None where the file ends before it."""
    start, end = int(asked[1]), min(int(asked[2] or size), size - 1)
    return range(start, end + 1) if start <= end else None
