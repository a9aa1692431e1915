"""What is seen of a machine beside files and states: masks, drop-ins, processes, and who stopped what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from kloros_infra.executor.apply import apply
from kloros_infra.executor.observe import Observable, observe
from kloros_infra.ir.artifact import Artifact, Link, TextFile
from kloros_infra.ir.names import ROUTER_UNIT
from kloros_infra.ir.observed import Observed, UnitState
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.stop_cause import StopCause
from kloros_infra.planner.diff import plan
from tests.fakes.files import FakeFiles
from tests.fakes.machine import FakeMachine
from tests.fakes.service_manager import FakeServiceManager
from tests.sites import LAYOUT, Site

UNIT, OTHER = "llama@code-max.service", "llama@chat-max.service"
DROP_IN = f"etc/systemd/system/{UNIT}.d/more.conf"


class Processes:
    """Every process runs as named; remembers for which variables it was asked."""

    def __init__(self) -> None:
        self.asked: dict[int, frozenset[str]] = {}

    def running(
        self, pid: int, *, names: Collection[str] = (), prefixes: tuple[str, ...] = ()
    ) -> RunningProcess | None:
        self.asked[pid] = frozenset(names)
        assert "LLAMA_ARG_" in prefixes
        return RunningProcess(pid, ("llama-server",), {}, 0, "")


class WithDropIns(FakeServiceManager):
    """Reports one drop-in for one unit."""

    def _state(self, unit: str) -> UnitState:
        state = super()._state(unit)
        return replace(state, drop_ins=(f"/{DROP_IN}",)) if unit == UNIT else state


def applied() -> FakeMachine:
    machine = FakeMachine()
    desired = Site().desired()
    apply(plan(desired, machine.observe(desired))[0], machine.ports_of_apply())
    return machine


def look(machine: FakeMachine, processes: Processes | None = None) -> Observed:
    where = Observable(machine.files, machine.generations, machine.weights, machine.manager, processes)
    return observe(where, paths=Site().desired().tree, layout=LAYOUT)


def test_a_mask_is_seen_before_the_manager_has_read_it() -> None:
    machine = applied()
    assert not look(machine).units[UNIT].is_masked
    machine.files.files[LAYOUT.override_path(UNIT)] = Link("/dev/null")
    assert look(machine).units[UNIT].is_masked


def test_drop_ins_are_read_so_that_a_plan_notices_when_they_change() -> None:
    machine = applied()
    machine.files.files[DROP_IN] = TextFile("[Service]\nNice=5\n")
    machine.manager = WithDropIns(machine.files)
    seen = look(machine)
    assert seen.units[UNIT].drop_ins == (f"/{DROP_IN}",)
    assert seen.files[DROP_IN] == TextFile("[Service]\nNice=5\n")


def test_a_stop_by_hand_is_told_from_one_of_ours() -> None:
    machine = applied()
    machine.manager.stop(ROUTER_UNIT)
    assert look(machine).units[ROUTER_UNIT].is_stopped_by_hand
    machine.files.record = replace(machine.files.record, is_unfinished=True)
    assert not look(machine).units[ROUTER_UNIT].is_stopped_by_hand


class Router:
    """Says what it is told to, and counts who asks."""

    def __init__(self, says: Mapping[str, StopCause] | None) -> None:
        self._says = says
        self.asked = 0

    def __call__(self) -> Mapping[str, StopCause] | None:
        self.asked += 1
        return self._says


def look_beside(router: Router, machine: FakeMachine) -> Observed:
    where = Observable(machine.files, machine.generations, machine.weights, machine.manager, router_stops=router)
    return observe(where, paths=Site().desired().tree, layout=LAYOUT)


def test_a_stop_by_the_router_is_told_from_one_by_hand() -> None:
    machine, router = applied(), Router({UNIT: StopCause.ROOM})
    machine.manager.stop(UNIT)
    seen = look_beside(router, machine)
    assert seen.has_router_said
    assert (seen.units[UNIT].is_stopped_by_hand, seen.units[UNIT].stopped_for) == (False, StopCause.ROOM)
    machine.manager.stop(OTHER)
    other = look_beside(router, machine).units[OTHER]
    assert (other.is_stopped_by_hand, other.stopped_for) == (True, None)


def test_a_router_that_does_not_answer_has_not_said_anything() -> None:
    machine = applied()
    machine.manager.stop(UNIT)
    seen = look_beside(Router(None), machine)
    assert (seen.has_router_said, seen.units[UNIT].is_stopped_by_hand) == (False, True)


def test_the_router_is_asked_only_where_an_instance_has_ended() -> None:
    machine, router = applied(), Router({})
    machine.manager.stop(ROUTER_UNIT)
    assert not look_beside(router, machine).has_router_said
    assert router.asked == 0


def test_processes_are_looked_at_for_the_variables_of_all_env_files() -> None:
    machine, processes = applied(), Processes()
    seen = look(machine, processes)
    main_pid = seen.units[UNIT].main_pid
    assert seen.running[UNIT].pid == main_pid
    assert {"LLAMA_ARG_CTX_SIZE", "LLAMA_ARG_PORT", "LLAMA_ARG_MODEL"} <= processes.asked[main_pid]
    assert "llama@code-mid.service" not in seen.running
    assert look(machine).running == {}


class Locked(FakeFiles):
    """Files of which one may not be read."""

    def read(self, path: str) -> Artifact | None:
        if path == LAYOUT.profile_file:
            raise PermissionError(13, "Permission denied", path)
        return super().read(path)


def test_what_may_not_be_read_is_listed_and_not_taken_for_absent() -> None:
    machine = applied()
    files = Locked(generations=machine.generations)
    files.record = machine.files.record
    where = Observable(files, machine.generations, machine.weights, None)
    observed = observe(where, paths={*Site().desired().tree, LAYOUT.profile_file}, layout=LAYOUT)
    assert observed.unreadable == (LAYOUT.profile_file,)
    assert LAYOUT.profile_file not in observed.files
    assert LAYOUT.routing in observed.files
