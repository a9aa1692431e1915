"""A small Hugging Face hub on loopback, which speaks what the real huggingface_hub client asks for.

Repositories have commits and branches. `resolve` answers with the headers of the real hub and sends large files from
another host; files kept in git itself have an etag that is no sha256, as there. Faults are served before anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

A_COMMIT = "c0ffee" * 6 + "cafe"
A_LATER_COMMIT = "beef" * 10
TOKEN = "hf_a_token_that_accepted_the_licence"  # noqa: S105 - of this hub alone


@dataclass
class Repository:
    """Files by commit, and what branches and tags point at; `in_git` names the files that are kept in git itself."""

    commits: dict[str, dict[str, bytes]]
    names: dict[str, str]
    in_git: frozenset[str] = frozenset()
    is_gated: bool = False

    def move(self, commit: str, files: dict[str, bytes], *, branch: str = "main") -> None:
        """Put a new commit on a branch."""
        self.commits[commit] = files
        self.names[branch] = commit


def a_repository(files: Mapping[str, bytes], *, in_git: frozenset[str] = frozenset()) -> Repository:
    """Build a repository of one commit."""
    return Repository({A_COMMIT: dict(files)}, {"main": A_COMMIT}, in_git)


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered instead: with a status and a body, or not at all until the hub is closed.

    `only` limits it to requests whose line contains that.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_stalled: bool = False
    only: str = ""


@dataclass
class Hub:
    """The hub's state: what it has, what it was asked, and how it misbehaves."""

    repositories: dict[str, Repository]
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ignores_range: bool = False
    sends_slowly: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, words: str) -> list[str]:
        """List the requests whose line contains words."""
        return [line for line in self.requests if words in line]

    def take_fault(self, line: str) -> Fault | None:
        """Give the fault that is meant for a request, once."""
        fault = next((fault for fault in self.faults if fault.only in line), None)
        if fault is not None:
            self.faults.remove(fault)
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: requests are kept."""

    def _answer(self) -> None:
        asked = f" {self.headers['Range']}" if "Range" in self.headers else ""
        token = " with a token" if "Authorization" in self.headers else ""
        line = f"{self.command} {self.path}{asked}{token}"
        self.hub.requests.append(line)
        fault = self.hub.take_fault(line)
        if fault is not None:
            self._misbehave(fault)
        elif found := re.fullmatch(r"/storage/([0-9a-f]{64})", self.path):
            self._send_content(self._stored(found[1]), {})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", urlsplit(self.path).path):
            self._send_tree(found[1], unquote(found[2]))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", urlsplit(self.path).path):
            self._send_info(found[1], unquote(found[2] or "main"))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self._resolve(found[1], unquote(found[2]), unquote(found[3]))
        else:
            self._send(404, {}, b"")

    def _misbehave(self, fault: Fault) -> None:
        if fault.is_stalled:
            self.hub.closing.wait()
            self.close_connection = True
        else:
            self._send(fault.status, fault.headers, fault.body)

    def _stored(self, sha256: str) -> bytes:
        trees = (tree for one in self.hub.repositories.values() for tree in one.commits.values())
        return next(file for tree in trees for file in tree.values() if hashlib.sha256(file).hexdigest() == sha256)

    def _files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Find a revision's commit and files; answer for what is not there, or not for us."""
        one = self.hub.repositories.get(repository)
        if one is None:
            self._send(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"")
            return None
        if one.is_gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted"}, b"")
            return None
        commit = one.names.get(revision, revision)
        if commit not in one.commits:
            self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b"")
            return None
        return commit, one.commits[commit]

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        found = self._files(repository, revision)
        if found is None:
            return
        commit, files = found
        if file not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"")
            return
        content = files[file]
        if file in self.hub.repositories[repository].in_git:
            etag = hashlib.sha1(b"blob" + content, usedforsecurity=False).hexdigest()
            self._send_content(content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})
            return
        sha256 = hashlib.sha256(content).hexdigest()
        # Another host than the hub's own: redirects within that are followed, out of it they are reported.
        location = f"http://localhost:{self.headers['Host'].rpartition(':')[2]}/storage/{sha256}"
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
        self._send(302, {"X-Repo-Commit": commit, "Location": location, **linked}, b"")

    def _send_tree(self, repository: str, revision: str) -> None:
        found = self._files(repository, revision)
        if found is not None:
            entries = [{"type": "file", "path": path, "size": len(data)} for path, data in sorted(found[1].items())]
            self._send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def _send_info(self, repository: str, revision: str) -> None:
        found = self._files(repository, revision)
        if found is not None:
            siblings = [{"rfilename": path, "size": len(data)} for path, data in sorted(found[1].items())]
            info = {"id": repository, "sha": found[0], "siblings": siblings}
            self._send(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _send_content(self, content: bytes, headers: Mapping[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        etag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', **headers}
        if asked is None or self.hub.ignores_range:
            self._send(200, etag, content)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if first > last:
            self._send(416, {**etag, "Content-Range": f"bytes */{len(content)}"}, b"")
            return
        self._send(206, {**etag, "Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1])

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_body(body)

    def _send_body(self, body: bytes) -> None:
        try:
            if not self.hub.sends_slowly:
                self.wfile.write(body)
                return
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                if self.hub.closing.wait(0.01):
                    return
        except ConnectionError:
            self.close_connection = True  # the client has read enough


@contextmanager
def a_hub(repositories: Mapping[str, Repository | Mapping[str, bytes]]) -> Iterator[Hub]:
    """Serve repositories by `owner/name`; a mapping of files stands for one commit."""
    hub = Hub({name: one if isinstance(one, Repository) else a_repository(one) for name, one in repositories.items()})
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            server.shutdown()
            thread.join()
