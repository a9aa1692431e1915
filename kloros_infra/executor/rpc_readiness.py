"""Wait for the RPC servers of other hosts before an instance is started that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.executor.ports import Clock
from kloros_infra.ir.rpc_server import RpcState

ONE_ANSWER_S = 2.0
POLL_S = 0.25


class RpcServers(Protocol):
    """Says whether an RPC server can be used."""

    def state(self, endpoint: str, timeout_s: float) -> RpcState:
        """Ask once."""
        ...


def await_free(endpoints: Sequence[str], servers: RpcServers, clock: Clock, *, limit_s: float) -> Problems:
    """Wait until each server can be used; say which could not within the time, and why."""
    deadline = clock.now() + limit_s
    states = dict.fromkeys(endpoints, RpcState.ABSENT)
    while True:
        for endpoint in (one for one, state in states.items() if state is not RpcState.FREE):
            states[endpoint] = servers.state(endpoint, ONE_ANSWER_S)
        if all(state is RpcState.FREE for state in states.values()):
            return ()
        if clock.now() >= deadline:
            return tuple(_unusable(endpoint, state) for endpoint, state in states.items() if state is not RpcState.FREE)
        clock.pause(POLL_S)


def _unusable(endpoint: str, state: RpcState) -> Diagnostic:
    return _taken(endpoint) if state is RpcState.TAKEN else _absent(endpoint)


def _absent(endpoint: str) -> Diagnostic:
    return Diagnostic(
        code="KI434",
        summary="RPC server not reached",
        detail=f"Nobody listens at {endpoint}: the cards that the model is placed on cannot be used.",
        hint="Start the other host, and look there: `systemctl status 'kloros-rpc@*'`. `kloros-infra apply --host NAME`"
        " sets it up.",
        address=endpoint,
    )


def _taken(endpoint: str) -> Diagnostic:
    return Diagnostic(
        code="KI435",
        summary="RPC server is taken",
        detail=f"The server at {endpoint} has another client, and serves one at a time.",
        hint="Stop what else uses it. Where its client is gone without a word, such as by a power cut, restart the"
        " `kloros-rpc@…` unit on that host.",
        address=endpoint,
    )
