"""Waiting for RPC servers of other hosts: until all can be used, or the time is up."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.executor.rpc_readiness import await_free
from kloros_infra.ir.rpc_server import RpcState
from tests.fakes.clock import FakeClock

ABSENT, FREE, TAKEN = RpcState.ABSENT, RpcState.FREE, RpcState.TAKEN


class ScriptedServers:
    """Servers whose states follow one another; the last one stays."""

    def __init__(self, states: dict[str, Sequence[RpcState]]) -> None:
        self._states = {endpoint: list(each) for endpoint, each in states.items()}
        self.asked: list[str] = []

    def state(self, endpoint: str, timeout_s: float) -> RpcState:
        assert timeout_s > 0
        self.asked.append(endpoint)
        states = self._states[endpoint]
        return states.pop(0) if len(states) > 1 else states[0]


def test_servers_that_are_free_are_asked_once() -> None:
    servers = ScriptedServers({"a:1": [FREE], "b:2": [FREE]})

    assert await_free(("a:1", "b:2"), servers, FakeClock(), limit_s=20) == ()
    assert servers.asked == ["a:1", "b:2"]


def test_the_others_are_asked_again_until_they_are_free() -> None:
    servers = ScriptedServers({"a:1": [FREE], "b:2": [ABSENT, TAKEN, FREE]})
    clock = FakeClock()

    assert await_free(("a:1", "b:2"), servers, clock, limit_s=20) == ()
    assert servers.asked == ["a:1", "b:2", "b:2", "b:2"]
    assert 0 < clock.now() < 1


def test_when_the_time_is_up_each_that_is_missing_is_named_with_the_reason() -> None:
    servers = ScriptedServers({"a:1": [ABSENT], "b:2": [FREE], "c:3": [TAKEN]})
    clock = FakeClock()

    problems = await_free(("a:1", "b:2", "c:3"), servers, clock, limit_s=20)

    assert [(problem.code, problem.address) for problem in problems] == [("KI434", "a:1"), ("KI435", "c:3")]
    assert 20 <= clock.now() < 21
