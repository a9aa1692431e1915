"""Tell the service manager that a service is ready: sd_notify(3), one datagram."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


def notify_ready() -> None:
    """Say so where somebody wants to know; a manager that is gone meanwhile is none of our trouble."""
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
        # An address that begins with @ is of the abstract namespace, unix(7).
        one.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
