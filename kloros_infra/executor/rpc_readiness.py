"""Wait for the RPC servers of other hosts before an instance is started that needs them.

Its unit waits for them for as long as it takes, so that it comes back with them. Whoever applies is told soon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.ports import Clock, RpcServers
from kloros_infra.executor.readiness import state_of
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.rpc_server import AWAITED_KEY, RpcState, read_awaited
from kloros_infra.ir.unit_keys import unit_keys

ONE_ANSWER_S = 2.0
POLL_S = 0.25
SHORT_WAIT_S = 10.0
"""Servers that are started, or restarted after a crash, are there by then; what takes longer is a host that is away."""
LONG_POLL_S = 5.0

UNUSED = frozenset({RpcState.FREE})
MAY_BE_OURS = frozenset({RpcState.FREE, RpcState.TAKEN})
"""A server has one client: for an instance that runs, that is the instance itself, until it restarts."""


def _keep_quiet(_: Problems) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long servers are waited for, None for ever; `tell` gets what is wrong whenever that changes."""

    limit_s: float | None = SHORT_WAIT_S
    right: frozenset[RpcState] = UNUSED
    tell: Callable[[Problems], None] = _keep_quiet


def await_servers(endpoints: Sequence[str], servers: RpcServers, clock: Clock, patience: Patience) -> Problems:
    """Wait until each server is right; say which is not within the limit, and why."""
    began = clock.now()
    told: Problems = ()
    states: dict[str, RpcState] = {}
    asked = tuple(endpoints)
    while True:
        states |= {endpoint: servers.state(endpoint, ONE_ANSWER_S) for endpoint in asked}
        problems = tuple(_unusable(one, states[one]) for one in endpoints if states[one] not in patience.right)
        if not problems:
            if len(asked) == len(endpoints):
                return ()
            asked = tuple(endpoints)  # while the others came, one that was there may have gone
            continue
        if problems != told:
            patience.tell(problems)
        waited_s = clock.now() - began
        if patience.limit_s is not None and waited_s >= patience.limit_s:
            return problems
        told, asked = problems, tuple(problem.address for problem in problems)
        clock.pause(POLL_S if waited_s < SHORT_WAIT_S else LONG_POLL_S)


def ask_for_servers(unit: str, machine: Machine) -> None:
    """Raise StepFailedError where a unit that is about to start, or one that it wants, would wait for RPC servers."""
    for one in (unit, *_keys(unit, machine).get("Unit.Wants", "").split()):
        endpoints = read_awaited(_keys(one, machine).get(f"Unit.{AWAITED_KEY}", ""))
        if endpoints:
            right = MAY_BE_OURS if state_of(one, machine).main_pid else UNUSED
            problems = await_servers(endpoints, machine.servers, machine.clock, Patience(right=right))
            if problems:
                raise StepFailedError(problems)


def _keys(unit: str, machine: Machine) -> Mapping[str, str]:
    """Read a unit as the current generation has it; nothing of one that is not ours."""
    artifact = machine.files.read(Layout().unit_path(unit))
    return unit_keys(artifact.text) if isinstance(artifact, TextFile) else {}


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
