"""How an apply ends when a unit does not stay up, when an undo is not complete, and what the next one makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import LeftBehindError, ObstacleError, RolledBackError, StepFailedError
from kloros_infra.executor.apply import apply
from kloros_infra.executor.generations import read_generation
from kloros_infra.executor.perform import undo_of
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.generation import History
from kloros_infra.ir.observed import ActiveState, Installed, Listener, UnitState
from kloros_infra.ir.plan import (
    AwaitReady,
    CheckRunning,
    FlipCurrent,
    Plan,
    RecordInstalled,
    ReloadManager,
    RemoveGeneration,
    RestartUnit,
    StartUnit,
    Step,
    StopUnit,
)
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.generation_changes import desired_of
from tests.fakes.generations import FakeGenerations
from tests.fakes.machine import FakeMachine, KilledError, Watch
from tests.fakes.outside import FakeGate
from tests.fakes.service_manager import FakeServiceManager
from tests.sites import LAYOUT, MiniModel, Site

CODE = "llama@code-max.service"
CHAT = "llama@chat-max.service"
"""The last that is let through: what fails there comes after the rest."""
BEFORE = Site().desired()
AFTER = Site(
    models=(
        MiniModel("code", {"max": 8601, "mid": 8602}, context=32000),
        MiniModel("chat", {"max": 8611, "mid": 8612}, context=32000),
    )
).desired()


def made(desired: Desired, machine: FakeMachine) -> Plan:
    found, problems = plan(desired, machine.observe(desired))
    assert not problems
    return found


def carry_out(machine: FakeMachine, desired: Desired) -> None:
    apply(made(desired, machine), machine.ports_of_apply())


def at_first(desired: Desired = BEFORE) -> FakeMachine:
    machine = FakeMachine()
    carry_out(machine, desired)
    machine.watch = Watch()
    return machine


def with_routing(desired: Desired, text: str) -> Desired:
    return replace(desired, tree={**desired.tree, LAYOUT.routing: TextFile(text)})


def test_a_switch_of_routes_alone_is_followed_by_a_reload() -> None:
    machine = at_first()
    steps = made(with_routing(BEFORE, "{}\n"), machine).steps
    assert steps[steps.index(FlipCurrent(2)) + 1] == ReloadManager()
    assert not [step for step in steps if isinstance(step, RestartUnit | StartUnit | StopUnit)]


def test_units_start_after_the_generation_before_a_switch_of_routes_was_removed() -> None:
    machine = at_first()
    carry_out(machine, with_routing(BEFORE, "{}\n"))
    machine.generations.remove(1)
    machine.manager.stop(CODE)
    machine.manager.start(CODE)
    assert CODE in machine.manager.running


class StrikesOnce(FakeGate):
    """A gate at whose last unit another ends, or is replaced, that was let through before."""

    def __init__(self, manager: FakeServiceManager, *, comes_back: bool) -> None:
        super().__init__()
        self._manager = manager
        self._strikes = [set() if comes_back else {CODE}]

    def problems(self, step: AwaitReady) -> Problems:
        if step.unit == CHAT and self._strikes:
            self._manager.crashing = self._strikes.pop()
            self._manager.restart(CODE)
            self._manager.crashing = set()
        return ()


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_unit_that_ends_after_it_was_let_through_rolls_back(*, comes_back: bool) -> None:
    machine = at_first()
    before = machine.snapshot()
    machine.gate = StrikesOnce(machine.manager, comes_back=comes_back)
    with pytest.raises(RolledBackError) as caught:
        carry_out(machine, AFTER)
    assert [problem.code for problem in caught.value.problems] == ["KI597", "KI585"]
    problem = caught.value.problems[0]
    assert problem.address == CODE
    assert ("runs as another process" if comes_back else "exit status 1 (exit-code)") in problem.detail
    assert caught.value.is_of_units
    assert machine.snapshot() == before


def test_the_last_look_comes_before_a_generation_counts_as_good() -> None:
    steps = made(AFTER, at_first()).steps
    (look,) = [step for step in steps if isinstance(step, CheckRunning)]
    assert {CODE, CHAT} <= set(look.units)
    kinds = [type(step).__name__ for step in steps]
    assert kinds.index("CheckRunning") < kinds.index("MarkLastGood")
    assert max(index for index, kind in enumerate(kinds) if kind == "AwaitReady") < kinds.index("CheckRunning")


class ClosedOnce(FakeGate):
    """A gate that does not let the last unit through the first time."""

    def problems(self, step: AwaitReady) -> Problems:
        found = super().problems(step)
        self.closed.discard(step.unit)
        return found


def closed_once() -> ClosedOnce:
    gate = ClosedOnce()
    gate.closed = {CHAT}
    return gate


class RestartsOnlyOnce(FakeServiceManager):
    """A service manager that fails each restart of one unit but the first, and cannot say why."""

    restarts = 0

    def restart(self, unit: str) -> None:
        if unit == CODE:
            self.restarts += 1
            if self.restarts > 1:
                raise StepFailedError([Diagnostic("KI602", "A unit did not start", unit, "", address=unit)])
        super().restart(unit)


def test_an_undo_in_part_is_completed_by_the_next_plan() -> None:
    machine = at_first()
    manager = RestartsOnlyOnce(machine.files)
    manager.__dict__.update(machine.manager.__dict__)
    with pytest.raises(LeftBehindError) as caught:
        apply(made(AFTER, machine), replace(machine.ports_of_apply(), manager=manager, gate=closed_once()))
    assert [problem.code for problem in caught.value.problems] == ["KI599", "KI510"]
    assert machine.files.visible == BEFORE.tree
    record = machine.files.record
    assert record.is_unfinished
    assert record.owed == {CODE}
    # It runs by what was undone: that nobody else can tell.
    machine.manager.__dict__.update(manager.__dict__)
    assert machine.manager.running[CODE] != machine.manager.definition(CODE)
    carry_out(machine, BEFORE)
    assert machine.manager.running[CODE] == machine.manager.definition(CODE)
    assert not machine.files.record.is_unfinished
    assert made(BEFORE, machine).steps == ()


class KeepsItsGeneration(FakeGenerations):
    """Generations whose link can be switched only once."""

    def flip(self, number: int | None) -> None:
        if number == 1:
            raise OSError(30, "Read-only file system")
        super().flip(number)


def test_an_undo_that_cannot_switch_back_owes_a_restart_to_all_that_was_touched_and_keeps_what_is_in_use() -> None:
    machine = at_first()
    generations = KeepsItsGeneration()
    generations.__dict__.update(machine.generations.__dict__)
    machine.generations = machine.files.generations = generations
    machine.gate = closed_once()
    with pytest.raises(LeftBehindError):
        carry_out(machine, AFTER)
    assert generations.history().numbers == (1, 2)
    assert {CODE, CHAT} <= machine.files.record.owed
    carry_out(machine, AFTER)
    assert made(AFTER, machine).steps == ()


def test_an_interruption_of_an_undo_does_not_hide_why_it_began() -> None:
    machine = at_first()
    machine.gate = closed_once()
    with pytest.raises(RolledBackError):
        carry_out(machine, AFTER)
    back = machine.watch.calls.index("before flip 1")
    machine = at_first()
    machine.gate = closed_once()
    machine.watch = Watch(back, KeyboardInterrupt())
    with pytest.raises(RolledBackError) as caught:
        carry_out(machine, AFTER)
    assert [problem.code for problem in caught.value.problems] == ["KI599", "KI585"]
    assert machine.generations.current == 1


def test_an_interruption_after_the_last_step_undoes_nothing() -> None:
    machine = at_first()

    def finish(outcome: str) -> None:
        raise KeyboardInterrupt

    journal = machine.journal
    journal.finish = finish  # type: ignore[method-assign]  # the one moment at which a person interrupts
    carry_out(machine, AFTER)
    assert machine.files.visible == AFTER.tree


def killed_while_staged() -> FakeMachine:
    """Kill an apply after it has staged its generation, and before anything that runs is touched."""
    undisturbed = at_first()
    carry_out(undisturbed, AFTER)
    machine = at_first()
    machine.watch = Watch(undisturbed.watch.calls.index("after stage 2") + 1, KilledError())
    with pytest.raises(KilledError):
        carry_out(machine, AFTER)
    machine.watch = Watch()
    return machine


def test_a_rollback_to_what_a_killed_apply_staged_keeps_it() -> None:
    machine = killed_while_staged()
    assert machine.generations.history() == History((1, 2), 1, 1)
    generation = read_generation(machine.generations, 2)
    carry_out(machine, desired_of(generation, LAYOUT, generation.manifest.profile))
    assert machine.generations.history() == History((1, 2), 2, 2)


def test_what_a_killed_apply_staged_goes_after_the_record_is_complete() -> None:
    machine = killed_while_staged()
    *_, first, removal, last = made(BEFORE, machine).steps
    assert removal == RemoveGeneration(2)
    assert isinstance(first, RecordInstalled)
    assert isinstance(last, RecordInstalled)
    # It is remembered until it is gone, and neither record owes anything else.
    assert (first.installed, last.installed.staged) == (replace(last.installed, staged=2), None)
    machine.watch = Watch()
    carry_out(machine, BEFORE)
    assert made(BEFORE, machine).steps == ()
    for at in range(len(machine.watch.calls)):
        again = killed_while_staged()
        again.watch = Watch(at, KilledError())
        with pytest.raises(KilledError):
            carry_out(again, BEFORE)
        carry_out(again, BEFORE)
        assert made(BEFORE, again).steps == ()
        assert again.generations.history().numbers == (1,)


@pytest.mark.parametrize(
    ("step", "state", "undo"),
    [
        (RestartUnit(CODE), UnitState(CODE, ActiveState.ACTIVATING, "start", 7), RestartUnit(CODE)),
        (StartUnit(CODE), UnitState(CODE, ActiveState.ACTIVATING, "auto-restart"), RestartUnit(CODE)),
        (StopUnit(CODE), UnitState(CODE, ActiveState.ACTIVATING, "start", 7), StartUnit(CODE)),
        (StartUnit(CODE), UnitState(CODE, ActiveState.ACTIVE, "running", 7), None),
        (StartUnit(CODE), UnitState(CODE, ActiveState.FAILED, "failed"), StopUnit(CODE)),
        (StopUnit(CODE), UnitState(CODE, ActiveState.DEACTIVATING, "stop-sigterm", 7), None),
    ],
)
def test_a_unit_that_was_about_to_run_is_brought_back(step: Step, state: UnitState, undo: Step | None) -> None:
    machine = FakeMachine()
    manager = Says(state, machine)
    assert undo_of(step, replace(machine.ports_of_apply(), manager=manager)) == undo


class Says(FakeServiceManager):
    """A service manager under which a unit is in a given state."""

    def __init__(self, state: UnitState, machine: FakeMachine) -> None:
        super().__init__(machine.files)
        self._said = state

    def states(self, units: object) -> dict[str, UnitState]:
        return {self._said.unit: self._said}


def test_an_answer_of_another_process_on_the_port_is_no_readiness() -> None:
    machine = FakeMachine()
    machine.ports.held = {}
    found = made(BEFORE, machine)
    machine.ports.held = {8601: Listener(4242, "python3", (1,))}
    with pytest.raises(StepFailedError) as caught:
        apply(replace(found, ports=()), machine.ports_of_apply())
    problem = caught.value.problems[0]
    assert problem.code == "KI508"
    assert "is answered by python3 (pid 4242), which is no process of the unit" in problem.detail


class AnswersAsItEnds:
    """A health check that is answered by a process which ends at that very moment."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def is_ready(self, url: str, timeout_s: float) -> bool:
        self._machine.manager.crashing = {CODE}
        self._machine.manager.restart(CODE)
        return True


def test_an_answer_counts_only_if_the_process_is_there_after_it() -> None:
    machine = FakeMachine()
    with pytest.raises(StepFailedError) as caught:
        apply(made(BEFORE, machine), replace(machine.ports_of_apply(), health=AnswersAsItEnds(machine)))
    assert "KI507" in [problem.code for problem in caught.value.problems]


class OfSomebodyElse(FakeGenerations):
    """Generations beside which something foreign stands where the current one is linked."""

    def history(self) -> History:
        return replace(super().history(), current=None, is_current_foreign=True)


@pytest.mark.parametrize("desired", [AFTER, nothing_desired(LAYOUT)], ids=["apply", "destroy"])
def test_a_folder_in_the_place_of_the_current_link_is_named_before_anything_is_done(desired: Desired) -> None:
    machine = at_first()
    generations = OfSomebodyElse()
    generations.__dict__.update(machine.generations.__dict__)
    machine.generations = generations
    found, problems = plan(desired, machine.observe(desired))
    assert "KI595" in [problem.code for problem in problems]
    with pytest.raises(ObstacleError):
        apply(found, machine.ports_of_apply())
    assert machine.watch.calls == []


def test_what_the_current_generation_names_is_ours_though_the_record_is_lost() -> None:
    machine = at_first()
    machine.files.record = Installed()
    machine.files.files[LAYOUT.profile_file] = TextFile("mid\n")
    observed = machine.observe(BEFORE)
    assert observed.installed.is_lost
    wanted = replace(AFTER, tree={**AFTER.tree, LAYOUT.profile_file: TextFile("max\n")})
    carry_out(machine, wanted)
    assert machine.files.record.digests.keys() == wanted.tree.keys()
    assert made(wanted, machine).steps == ()


def test_a_lost_record_is_written_anew_though_nothing_else_differs() -> None:
    machine = at_first()
    record, machine.files.record = machine.files.record, Installed()
    steps = made(BEFORE, machine).steps
    assert steps == (RecordInstalled(record),)
    carry_out(machine, BEFORE)
    assert made(BEFORE, machine).steps == ()


def test_destroy_knows_what_runs_though_the_record_is_lost() -> None:
    machine = at_first()
    machine.files.record = Installed()
    carry_out(machine, nothing_desired(LAYOUT))
    assert machine.manager.running == {}
    assert machine.files.visible == {}
    assert machine.generations.history() == History()


def test_nothing_is_called_destroyed_that_nobody_can_name() -> None:
    machine = at_first()
    machine.files.record = Installed()
    machine.generations.current = None
    found, problems = plan(nothing_desired(LAYOUT), machine.observe(nothing_desired(LAYOUT)))
    assert [problem.code for problem in problems] == ["KI596"]
    assert [problem.code for problem in found.refusals] == ["KI596"]
