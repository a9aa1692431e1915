"""The Unix socket of the runtime control API: who connects is known by the kernel's word (unix(7), SO_PEERCRED)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

from kloros_infra.daemon.control import Control
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_connection import ClientConnection, House
from kloros_infra.daemon.http_framing import HttpLimits, Request
from kloros_infra.daemon.http_server import HttpServer
from kloros_infra.daemon.openai import error_body
from kloros_infra.daemon.relay import Client
from kloros_infra.diagnostics import Diagnostic

log = logging.getLogger(__name__)

LIMITS = HttpLimits(body_bytes=64 * 1024, drain_s=2.0)
CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""
# Whoever may not ask is told so: a socket that he could not connect to would say nothing.
MODE = 0o666
MOST_CONNECTIONS = 32
"""So many may one user have open: whoever opens more gets no answer, and takes nothing from the others."""


class ControlConnection(ClientConnection):
    """A connection whose one request is refused unless one of `uids` made it; `connected` counts those of each user."""

    def __init__(self, house: House, *, uids: frozenset[int], connected: Counter[int]) -> None:
        super().__init__(house)
        self._uids = uids
        self._connected = connected
        self._uid: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast("asyncio.Transport", transport)
        uid = peer_uid(connection)
        if self._connected[uid] >= MOST_CONNECTIONS:
            connection.abort()
            return
        self._uid = uid
        self._connected[uid] += 1
        if uid not in self._uids:
            log.warning("user %d asked for control of the router and was refused", uid)
            self._answer = partial(_refuse, uid)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._uid is not None:
            self._connected -= Counter((self._uid,))  # and forgets who has none left
            super().connection_lost(exc)


@asynccontextmanager
async def serve_control(desk: Desk, path: str, *, uids: frozenset[int]) -> AsyncIterator[None]:
    """Serve operators while the context is open; a socket that cannot be made is said, and the router goes on."""
    server = HttpServer(Control(desk), LIMITS)
    async with AsyncExitStack() as stack:
        try:
            listening = stack.enter_context(listening_at(Path(path)))
            await server.listen_at(listening, partial(ControlConnection, uids=uids, connected=Counter()))
        except OSError as error:
            problem = cannot_open(path, str(error))
            log.warning("%s %s: %s %s", problem.code, problem.summary, problem.detail, problem.hint)
        try:
            yield
        finally:
            server.stop_listening()
            try:
                await server.drain()
            finally:
                await server.cut()


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Bind a socket in place of one that a former router left, and take it away at the end; raise OSError.

    unix(7) allows 107 bytes for the path: the folder is named by its number, so that any root will do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    fresh = f".{path.name}.{os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(f"/proc/self/fd/{folder}/{fresh}")
            os.chmod(fresh, MODE, dir_fd=folder)
            mine = os.stat(fresh, dir_fd=folder).st_ino
            os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            try:
                yield listening
            finally:
                # Another router may have put its own there, or the whole root be gone.
                with suppress(OSError):
                    if os.stat(path.name, dir_fd=folder).st_ino == mine:
                        os.unlink(path.name, dir_fd=folder)
    finally:
        os.close(folder)


def peer_uid(transport: asyncio.Transport) -> int:
    """Say who made a connection; uvloop's socket can only be asked for its number."""
    number = transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(number)) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    uid: int = CREDENTIALS.unpack(credentials)[1]
    return uid


def _refuse(uid: int, request: Request, client: Client) -> None:
    request.is_persistent = False
    client.reply(403, error_body(403, (not_an_operator(uid),)))


def cannot_open(path: str, reason: str) -> Diagnostic:
    """The control socket cannot be made."""
    return Diagnostic(
        code="KI846",
        summary="No control socket",
        detail=f"{path} cannot be made: {reason}.",
        hint="The router serves without it, but cannot be controlled: give the folder to the router's user.",
        address=path,
    )


def not_an_operator(uid: int) -> Diagnostic:
    """Somebody asks who is neither root nor the router's user nor the owner of its root."""
    return Diagnostic(
        code="KI847",
        summary="Not an operator",
        detail=f"User {uid} may not control the router.",
        hint="Run the command as root, or as the owner of the installation's folder.",
    )
