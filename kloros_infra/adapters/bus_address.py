"""Where ChemBus is: addresses on loopback, from models.yaml or from KLoROS's variables, and listening on them."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError, ProblemsError
from kloros_infra.ir.routing import RoutedBus

# The older name first: both are set on a machine that is being moved from one to the other.
ADDRESS_FAMILIES = ("KLR_CHEM", "KLR_UMN")
TCP_ADDRESS = r"tcp://\[?([0-9a-fA-F.:]+)\]?:(\d{1,5}|\*)"
IPC = "ipc://"
BACKLOG = 128


def bus_addresses(env: Mapping[str, str], default: RoutedBus) -> RoutedBus:
    """Let KLR_CHEM_XSUB/XPUB or KLR_UMN_XSUB/XPUB replace an address; raise ProblemsError if they disagree."""
    changed = {"xsub": _address(env, "XSUB", default.xsub), "xpub": _address(env, "XPUB", default.xpub)}
    return default.model_copy(update=changed)


def _address(env: Mapping[str, str], side: str, default: str) -> str:
    named = {name: env[name] for family in ADDRESS_FAMILIES if env.get(name := f"{family}_{side}")}
    if len(set(named.values())) > 1:
        raise ProblemsError([_families_disagree(named)])
    return next(iter(named.values()), default)


def require_loopback(address: str) -> None:
    """Refuse an address that other machines could reach: ChemBus has no authentication."""
    if address.startswith(IPC) and len(address) > len(IPC):
        return
    found = re.fullmatch(TCP_ADDRESS, address)
    try:
        is_loopback = found is not None and ipaddress.ip_address(found[1]).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ProblemsError([_not_loopback(address)])


def listen(address: str) -> tuple[socket.socket, str]:
    """Listen on a loopback address; give the socket and the address with its port.

    Raises ProblemsError for an address that is none, ObstacleError when it is taken or cannot be used.
    """
    require_loopback(address)
    listening = None
    try:
        if address.startswith(IPC):
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            _bind_path(listening, address.removeprefix(IPC))
        else:
            host, port = _tcp_parts(address)
            listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise ObstacleError([_cannot_bind(address, error)]) from error
    return listening, _bound_address(listening, address)


def stop_listening(listening: socket.socket, address: str) -> None:
    """Close, and take the socket's file away."""
    listening.close()
    if address.startswith(IPC) and not address.startswith(f"{IPC}@"):
        Path(address.removeprefix(IPC)).unlink(missing_ok=True)


def is_listening(address: str) -> bool:
    """Say whether anyone accepts connections on an address, to tell a missing bus from a silent one."""
    try:
        connect(address).close()
    except (OSError, ValueError, TypeError):
        return False
    return True


def connect(address: str, *, timeout_s: float = 0.2) -> socket.socket:
    """Connect to an address; raise OSError when nobody listens."""
    if not address.startswith(IPC):
        return socket.create_connection(_tcp_parts(address), timeout=timeout_s)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout_s)
    try:
        connected.connect(_unix_name(address.removeprefix(IPC)))
    except OSError:
        connected.close()
        raise
    return connected


def _tcp_parts(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), 0 if port == "*" else int(port)


def _unix_name(path: str) -> str:
    """Name a socket's file; `@name` is in Linux's namespace without files (unix(7), zmq_ipc(7))."""
    return f"\0{path[1:]}" if path.startswith("@") else path


def _bind_path(listening: socket.socket, path: str) -> None:
    """Bind, over a file that a proxy left when it was killed, but not over one where somebody listens."""
    name = _unix_name(path)
    try:
        listening.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or path.startswith("@") or is_listening(f"{IPC}{path}"):
            raise
        Path(path).unlink(missing_ok=True)
        listening.bind(name)


def _bound_address(listening: socket.socket, address: str) -> str:
    if address.startswith(IPC):
        return address
    host, port = listening.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _families_disagree(named: Mapping[str, str]) -> Diagnostic:
    return Diagnostic(
        code="KI706",
        summary="Bus addresses disagree",
        detail=" and ".join(f"{name}={value}" for name, value in sorted(named.items())) + " name different places.",
        hint="Set both families of variables to the same address, or only one of them.",
    )


def _not_loopback(address: str) -> Diagnostic:
    return Diagnostic(
        code="KI702",
        summary="Bus address is not on loopback",
        detail=f"'{address}' is not an address such as tcp://127.0.0.1:5556. ChemBus has no authentication.",
        hint="Use a numeric loopback address with a port.",
    )


def _cannot_bind(address: str, error: OSError) -> Diagnostic:
    if error.errno == errno.EADDRINUSE:
        detail = f"Another process already listens on {address}: perhaps a ChemBus proxy that is running."
        hint = "Stop it, or give bus.xsub and bus.xpub other ports. With KLoROS's own proxy set `bus.managed: false`."
        return Diagnostic(code="KI701", summary="Bus address is taken", detail=detail, hint=hint)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Diagnostic(
        code="KI703",
        summary="Bus address cannot be used",
        detail=f"Binding {address} failed: {reason}.",
        hint="Choose another address for bus.xsub and bus.xpub.",
    )
