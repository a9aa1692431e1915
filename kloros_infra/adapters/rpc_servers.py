"""Ask ggml's RPC servers of other hosts whether they can be used, without a word of their protocol.

A server reads commands of one client until that one closes its side, and only then turns to the next (llama.cpp,
ggml-rpc.cpp, rpc_serve_client). So a connection on which nothing will be sent is closed at once by a server that is
free, and lies in the queue of one that is not. A greeting would do as well, but the answer to one that gave up waiting
kills the server: it is sent to a closed connection (SIGPIPE).

A connection to a server that is not free lies in its queue even once it is closed, and the queue has room for two
(listen(fd, 1) in transport.cpp). Then the host would look as if it were away. So a server that has a client on this
host, as is usual, is not connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from kloros_infra.adapters.ports_in_use import ProcPorts
from kloros_infra.ir.catalog import Card, RemoteLink
from kloros_infra.ir.routing import RoutedCard
from kloros_infra.ir.rpc_server import RpcState

PRESENT_S = 1.0
"""How long a host may take to accept a connection, or to refuse it, before its cards count as absent."""


class SocketRpcServers:
    """Asks by TCP."""

    def state(self, endpoint: str, timeout_s: float) -> RpcState:
        """Ask once; `endpoint` is an address and a port."""
        address, _, port = endpoint.rpartition(":")
        if _is_ours(address, int(port)):
            return RpcState.TAKEN
        try:
            connection = socket.create_connection((address, int(port)), timeout=timeout_s)
        except OSError:
            return RpcState.ABSENT
        with connection:
            return _state(connection)


def lent_cards(cards: Iterable[Card | RoutedCard], timeout_s: float = PRESENT_S) -> frozenset[str]:
    """Name the cards of other hosts on which some RPC server listens: the host is up, and lends them."""
    links = {card.name: card.remote for card in cards if card.remote is not None}
    reached = {link: _answers(link, timeout_s) for link in set(links.values())}
    return frozenset(name for name, link in links.items() if reached[link])


def _answers(link: RemoteLink, timeout_s: float) -> bool:
    """Try one port after the other: an instance that is placed on local cards alone has no server."""
    if any(_is_ours(link.address, port) for port in link.ports):
        return True
    for port in link.ports:
        try:
            socket.create_connection((link.address, port), timeout=timeout_s).close()
        except ConnectionRefusedError:
            continue
        except OSError:
            return False  # the host itself is away: the other ports would take as long each
        else:
            return True
    return False


def _state(connection: socket.socket) -> RpcState:
    """Tell by when the server closes a connection on which nothing will be sent."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    except TimeoutError:
        return RpcState.TAKEN
    except OSError:
        return RpcState.ABSENT
    return RpcState.FREE


def _is_ours(address: str, port: int) -> bool:
    """Say whether a process of this host is the server's client; a name is nobody's address."""
    try:
        return ProcPorts().is_connected(address, port)
    except OSError:
        return False
