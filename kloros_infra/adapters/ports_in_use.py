"""Who listens on a TCP port, and what this host is connected to: see proc(5), /proc/net/tcp, and /proc/pid/fd."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kloros_infra.ir.observed import Listener

LISTEN, ESTABLISHED = "0A", "01"
"""TCP_LISTEN and TCP_ESTABLISHED in include/net/tcp_states.h."""

# Addresses, as the kernel prints them (each 32-bit word in host order), on which a listener takes a loopback port:
# 0.0.0.0, 127.0.0.1, ::, ::1 and ::ffff:127.0.0.1.
TAKING_ADDRESSES = frozenset(
    {
        "00000000",
        "0100007F",
        "00000000000000000000000000000000",
        "00000000000000000000000001000000",
        "0000000000000000FFFF00000100007F",
    }
)


class ProcPorts:
    """Reads the socket tables of this network namespace."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """Give the processes that listen on a loopback port; a socket whose process is hidden has pid 0."""
        inodes = frozenset(self._inodes(port))
        if not inodes:
            return ()
        pids = sorted({pid for pid, inode in self._open_sockets() if inode in inodes})
        return tuple(self._listener(pid) for pid in pids) or (Listener(0),)

    def is_listening(self, address: str, port: int) -> bool:
        """Say whether somebody listens on a port of exactly this IPv4 address."""
        return any(state == LISTEN and local == _shown(address, port) for local, _, state, _ in self._sockets())

    def is_connected(self, address: str, port: int) -> bool:
        """Say whether somebody of this host is the client of a server at an IPv4 address."""
        return any(state == ESTABLISHED and other == _shown(address, port) for _, other, state, _ in self._sockets())

    def _inodes(self, port: int) -> Iterator[str]:
        for local, _, state, inode in self._sockets():
            address, _, number = local.partition(":")
            if state == LISTEN and int(number, 16) == port and address in TAKING_ADDRESSES:
                yield inode

    def _sockets(self) -> Iterator[tuple[str, str, str, str]]:
        """List the local address, the other one, state and inode of each socket."""
        for table in ("tcp", "tcp6"):
            for line in _lines(self._proc / "net" / table)[1:]:
                fields = line.split()
                yield fields[1], fields[2], fields[3], fields[9]

    def _open_sockets(self) -> Iterator[tuple[int, str]]:
        """List (pid, socket inode) of the processes that we may look into."""
        for folder in self._proc.glob("[0-9]*/fd"):
            for target in _targets(folder):
                if target.startswith("socket:["):
                    yield int(folder.parent.name), target.removeprefix("socket:[").removesuffix("]")

    def _listener(self, pid: int) -> Listener:
        name = "".join(_lines(self._proc / str(pid) / "comm")).strip()
        return Listener(pid, name, tuple(self._ancestors(pid)))

    def _ancestors(self, pid: int) -> Iterator[int]:
        while (parent := self._parent(pid)) > 0:
            yield parent
            pid = parent

    def _parent(self, pid: int) -> int:
        """Read the fourth field of stat; the name before it may hold blanks and brackets."""
        stat = "".join(_lines(self._proc / str(pid) / "stat"))
        fields = stat.rpartition(")")[2].split()
        return int(fields[1]) if len(fields) > 1 else 0


def _shown(address: str, port: int) -> str:
    """Write an IPv4 address and a port as the kernel prints them."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"


def _targets(folder: Path) -> Iterator[str]:
    """Read the links in a folder; descriptors that close and processes that end meanwhile are passed over."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            yield str(entry.readlink())


def _lines(file: Path) -> list[str]:
    """Read a file of /proc; nothing when it is gone, as a process or IPv6 may be."""
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
