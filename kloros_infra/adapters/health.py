"""Ask a server whether it is ready.

The standard library's client: this asks one URL of one loopback server, and the commands that wait are started often
(measured: `http.client` imports in a quarter of httpx's time).
"""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

from kloros_infra.adapters.ports_in_use import ProcPorts


class ServerHealth:
    """Ready is an answer of 200 for http://, an accepted connection for tcp://, a listening socket for listen://.

    The last is for servers of this machine that it may not send anything to.
    """

    def is_ready(self, url: str, timeout_s: float) -> bool:
        """Ask once; False on any other answer, on none in time, and when nobody listens."""
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        try:
            if parts.scheme == "listen":
                return ProcPorts().is_listening(host, port)
            if parts.scheme == "tcp":
                socket.create_connection((host, port), timeout=timeout_s).close()
                return True
            return _status(host, port, parts.path or "/", timeout_s) == 200
        except (OSError, http.client.HTTPException):
            return False


def _status(host: str, port: int, path: str, timeout_s: float) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()
