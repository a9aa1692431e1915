"""Ports for the tests: each is handed out once, also to test runs beside this one."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

PORTS = range(20000, 32768)
"""Below those of outgoing connections, any of which could take a port before a server does (ip_local_port_range)."""

LAST = Path(tempfile.gettempdir()) / f"kloros-infra-tests-{os.getuid()}.port"


def free_ports(count: int) -> list[int]:
    """Hand out ports that nobody listens on, and that nobody was given before.

    The kernel, asked for any port, may name one that it named a moment ago: two settings of one file then share it.
    """
    with LAST.open("a+") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        ledger.seek(0)
        following = _after(int(ledger.read() or PORTS[-1]))
        ports = [next(following) for _ in range(count)]
        ledger.truncate(0)
        ledger.write(str(ports[-1]))
    return ports


def _after(last: int) -> Iterator[int]:
    """Name the free ports that follow one, once around."""
    start = last - PORTS.start + 1
    for step in range(len(PORTS)):
        port = PORTS[(start + step) % len(PORTS)]
        if _is_free(port):
            yield port
    raise OSError(f"no more free ports from {PORTS.start} to {PORTS.stop - 1}")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
