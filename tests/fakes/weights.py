"""Weights without a network: a source in memory, and a small hub that speaks what huggingface_hub asks for."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts

A_COMMIT = "c0ffee" * 6 + "cafe"


def unreachable(url: str) -> UnreachableError:
    """Build what a source raises whose file is not there."""
    return UnreachableError([Diagnostic("KI310", "Weights not found", f"{url}: there is no such file.", "Bring it.")])


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A file of the source in memory."""

    content: bytes
    revision: str | None = "1"
    is_vouched: bool = False


@dataclass
class HeldFiles:
    """A source of files in memory, which remembers what was read in full."""

    files: dict[str, HeldFile]
    folder: Path | None = None
    scheme: str = "held://"
    origin: Origin = Origin.PACKAGE
    read_in_full: list[str] = field(default_factory=list)

    def handles(self, url: str) -> bool:
        return url.startswith(self.scheme)

    def look(self, url: str) -> SourceFacts:
        held = self._held(url)
        sha256 = hashlib.sha256(held.content).hexdigest() if held.is_vouched else None
        return SourceFacts(self.origin, held.revision, len(held.content), sha256)

    def head(self, url: str, revision: str | None, length: int) -> bytes:
        return self._held(url).content[:length]

    def pieces(self, url: str, revision: str | None) -> Iterator[bytes]:
        content = self._held(url).content
        self.read_in_full.append(url)
        return (content[start : start + 1000] for start in range(0, len(content), 1000))

    def locate(self, url: str, revision: str | None) -> Path:
        assert self.folder is not None
        path = self.folder / url.removeprefix(self.scheme).replace("/", "_")
        if not path.exists() or path.read_bytes() != self._held(url).content:
            path.write_bytes(self._held(url).content)
        return path

    def is_reachable(self, url: str, revision: str | None) -> bool:
        return url in self.files

    def _held(self, url: str) -> HeldFile:
        if url not in self.files:
            raise unreachable(url)
        return self.files[url]


class _HubHandler(BaseHTTPRequestHandler):
    """`/owner/name/resolve/revision/file` with the headers of the real hub; large files move to another path."""

    protocol_version = "HTTP/1.1"
    files: Mapping[str, bytes] = {}
    status: int = 200
    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        self.requests.append(str(args[0]))

    def _answer(self, *, with_body: bool) -> None:
        stored = re.fullmatch(r"/storage/(.+)", self.path)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        name = stored[1] if stored else f"{found[1]}/{found[3]}" if found else ""
        if self.status != 200 or name not in self.files:
            self._send(self.status if self.status != 200 else 404, {"X-Error-Code": "EntryNotFound"}, b"", with_body)
        elif stored:
            self._send_range(self.files[name], with_body)
        else:
            content = self.files[name]
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            self._send(302, {"X-Repo-Commit": A_COMMIT, "Location": self._storage(name), **linked}, b"", with_body)

    def _storage(self, name: str) -> str:
        """Name another host than the hub's own: redirects within that are followed, out of it they are reported."""
        port = self.headers["Host"].rpartition(":")[2]
        return f"http://localhost:{port}/storage/{name}"

    def _send_range(self, content: bytes, with_body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if asked is None:
            self._send(200, etag, content, with_body)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        self._send(
            206, {**etag, "Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1], with_body
        )

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub on loopback: where it is, and what it was asked."""

    endpoint: str
    requests: list[str]


@contextmanager
def a_hub(files: Mapping[str, bytes], *, status: int = 200) -> Iterator[Hub]:
    """Serve files, by `owner/name/path`; with another status than 200 every request fails with it."""
    requests: list[str] = []
    handler = type("Handler", (_HubHandler,), {"files": files, "status": status, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Hub(f"http://127.0.0.1:{server.server_address[1]}", requests)
        finally:
            server.shutdown()
            thread.join()
