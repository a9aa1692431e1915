"""Waiting for RPC servers of other hosts: until all can be used, or the time is up."""

from __future__ import annotations

import pytest

from kloros_infra.diagnostics import Problems
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.perform import perform
from kloros_infra.executor.rpc_readiness import MAY_BE_OURS, Patience, ask_for_servers, await_servers
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.plan import RestartUnit, StartUnit
from kloros_infra.ir.rpc_server import RpcState
from tests.fakes.clock import FakeClock
from tests.fakes.machine import FakeMachine
from tests.fakes.outside import FakeRpcServers

ABSENT, FREE, TAKEN = RpcState.ABSENT, RpcState.FREE, RpcState.TAKEN
DAYS = 3 * 24 * 60 * 60
UNIT, TARGET = "llama@deep-max.service", "kloros-profile-max.target"


def test_servers_that_are_free_are_asked_once() -> None:
    servers = FakeRpcServers({"a:1": [FREE], "b:2": [FREE]})

    assert await_servers(("a:1", "b:2"), servers, FakeClock(), Patience()) == ()
    assert servers.asked == ["a:1", "b:2"]


def test_the_others_are_asked_again_and_at_last_all_of_them() -> None:
    servers = FakeRpcServers({"a:1": [FREE], "b:2": [ABSENT, TAKEN, FREE]})
    clock = FakeClock()

    assert await_servers(("a:1", "b:2"), servers, clock, Patience()) == ()
    assert servers.asked == ["a:1", "b:2", "b:2", "b:2", "a:1", "b:2"]
    assert 0 < clock.now() < 1


def test_one_that_goes_while_another_is_awaited_is_awaited_as_well() -> None:
    servers = FakeRpcServers({"a:1": [FREE, ABSENT, FREE], "b:2": [ABSENT, FREE]})
    told: list[Problems] = []

    assert await_servers(("a:1", "b:2"), servers, FakeClock(), Patience(tell=told.append)) == ()
    assert [[problem.address for problem in problems] for problems in told] == [["b:2"], ["a:1"]]


def test_when_the_time_is_up_each_that_is_missing_is_named_with_the_reason() -> None:
    servers = FakeRpcServers({"a:1": [ABSENT], "b:2": [FREE], "c:3": [TAKEN]})
    clock = FakeClock()

    problems = await_servers(("a:1", "b:2", "c:3"), servers, clock, Patience())

    assert [(problem.code, problem.address) for problem in problems] == [("KI434", "a:1"), ("KI435", "c:3")]
    assert 10 <= clock.now() < 11


def test_without_a_limit_a_host_is_awaited_for_days_and_each_change_is_told_once() -> None:
    polls = DAYS // 5
    servers = FakeRpcServers({"a:1": [*[ABSENT] * polls, TAKEN, TAKEN, FREE]})
    clock, told = FakeClock(), list[Problems]()

    assert await_servers(("a:1",), servers, clock, Patience(limit_s=None, tell=told.append)) == ()

    assert [problem.code for problems in told for problem in problems] == ["KI434", "KI435"]
    assert clock.now() > 0.9 * DAYS, "asked seldom once it has lasted"


def test_a_server_may_be_taken_by_the_instance_that_restarts() -> None:
    servers = FakeRpcServers({"a:1": [TAKEN]})

    assert await_servers(("a:1",), servers, FakeClock(), Patience(right=MAY_BE_OURS)) == ()


def a_machine(state: RpcState) -> FakeMachine:
    """Give a machine with a profile's target, and an instance in it that needs a server."""
    machine = FakeMachine()
    machine.servers.states["10.0.0.7:9601"] = [state]
    instance = "[Unit]\nX-Kloros-Awaits=10.0.0.7:9601\n[Service]\nExecStart=/opt/llama-server\n"
    for name, text in {UNIT: instance, TARGET: f"[Unit]\nWants={UNIT}\n"}.items():
        machine.files.write(Layout().unit_path(name), TextFile(text))
    return machine


@pytest.mark.parametrize("unit", [UNIT, TARGET])
@pytest.mark.parametrize(("state", "code"), [(ABSENT, "KI434"), (TAKEN, "KI435")])
def test_whoever_applies_is_told_soon_and_nothing_waits_for_ever(unit: str, state: RpcState, code: str) -> None:
    machine = a_machine(state)

    for step in (StartUnit(unit), RestartUnit(unit)):
        began = machine.clock.now()
        with pytest.raises(StepFailedError) as caught:
            perform(step, machine.ports_of_apply(), {})
        assert [problem.code for problem in caught.value.problems] == [code]
        assert 10 <= machine.clock.now() - began < 11

    assert machine.manager.running == {}


@pytest.mark.parametrize("unit", [UNIT, TARGET, "kloros-router.service"])
def test_nothing_is_said_where_servers_are_free_or_none_are_needed(unit: str) -> None:
    ask_for_servers(unit, a_machine(FREE).ports_of_apply())


def test_an_instance_that_runs_has_its_server_itself() -> None:
    machine = a_machine(TAKEN)
    machine.manager.start(UNIT)

    ask_for_servers(UNIT, machine.ports_of_apply())

    machine.servers.states["10.0.0.7:9601"] = [ABSENT]
    with pytest.raises(StepFailedError):
        ask_for_servers(UNIT, machine.ports_of_apply())
