"""apply over a fake machine: order, idempotence, undo of every failure, and convergence after every kill."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LeftBehindError, ObstacleError, RolledBackError, StepFailedError
from kloros_infra.executor import manifest_json
from kloros_infra.executor.apply import Outcome, apply
from kloros_infra.executor.generations import read_generation
from kloros_infra.executor.journal_record import describe
from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.generation import History, Interrupted, Run
from kloros_infra.ir.observed import Installed, Listener
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.unit_keys import restart_keys
from kloros_infra.planner.cost import start_timeout_s
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.generation_changes import desired_of, manifest_of
from tests.fakes.machine import FakeMachine, KilledError, Watch
from tests.fakes.outside import FakeJournal, FakePorts
from tests.fakes.service_manager import FakeServiceManager
from tests.sites import LAYOUT, MiniModel, Site

CODE = MiniModel("code", {"max": 8601, "mid": 8602})
CHAT = MiniModel("chat", {"max": 8611, "mid": 8612})

BEFORE = Site().desired()
# Everything at once: a model goes, one comes, one changes and moves, the router and a program change.
AFTER = Site(
    models=(
        MiniModel("code", {"max": 8611, "mid": 8602}, context=32000, memory="12G"),
        MiniModel("embed", {"max": 8601}),
    ),
    llama_server="/opt/other/llama-server",
    router_memory="1G",
    extra={"etc/tmpfiles.d/kloros-infra.conf": "d /run/kloros\n"},
).desired()


def carry_out(machine: FakeMachine, desired: Desired) -> Outcome:
    made, problems = plan(desired, machine.observe(desired))
    assert not problems
    return apply(made, machine.ports_of_apply())


def a_machine(*applied: Desired) -> FakeMachine:
    machine = FakeMachine()
    for desired in applied:
        carry_out(machine, desired)
    machine.watch = Watch()
    return machine


def assert_as_desired(machine: FakeMachine, desired: Desired) -> None:
    """Everything is there, nothing else is, and each process runs by what is there now."""
    assert machine.files.visible == desired.tree
    assert not machine.files.record.is_unfinished
    assert machine.files.record.digests.keys() == desired.tree.keys()
    wanted = {unit.unit for unit in desired.units if unit.run is Run.ALWAYS}
    assert machine.manager.running.keys() == wanted
    assert_runs_by_what_is_there(machine)
    assert machine.generations.current == machine.generations.last_good
    made, _ = plan(desired, machine.observe(desired))
    assert made.changes == ()
    assert made.steps == ()


def assert_runs_by_what_is_there(machine: FakeMachine) -> None:
    """A process may have been started with another description, but with no other setting, env file or program."""
    for unit, (text, *rest) in machine.manager.running.items():
        now, *rest_now = machine.manager.definition(unit)
        assert not restart_keys(text, now)
        assert rest == rest_now


@pytest.mark.parametrize("desired", [BEFORE, AFTER, nothing_desired(LAYOUT)], ids=["before", "after", "nothing"])
@pytest.mark.parametrize("start", [(), (BEFORE,), (AFTER,)], ids=["fresh", "from-before", "from-after"])
def test_a_second_plan_is_empty(start: tuple[Desired, ...], desired: Desired) -> None:
    machine = a_machine(*start)
    carry_out(machine, desired)
    assert_as_desired(machine, desired)


def test_each_changed_unit_is_started_once_and_the_others_not_at_all() -> None:
    machine = a_machine(BEFORE)
    carry_out(machine, Site(models=(MiniModel("code", {"max": 8601, "mid": 8602}, context=32000), CHAT)).desired())
    verbs = ("before start", "before restart", "before stop")
    touched = [call for call in machine.watch.calls if call.startswith(verbs)]
    assert touched == ["before restart llama@code-max.service"]
    assert machine.manager.reloads == 2


def test_a_unit_is_ready_before_the_next_is_restarted() -> None:
    machine = a_machine(BEFORE)
    machine.health.asks.clear()
    machine.health.asks_before_ready = 3
    carry_out(machine, Site(gigabytes=1, llama_server="/other").desired())
    shown = machine.display.texts
    first, second = shown.index("restart llama@code-max.service"), shown.index("restart llama@chat-max.service")
    assert shown[first + 1 : second] == ["wait for llama@code-max.service"] + ["waiting for llama@code-max.service"] * 3


def test_what_starts_anew_starts_together_and_is_waited_for_together() -> None:
    machine = FakeMachine()
    machine.health.asks_before_ready = 1
    carry_out(machine, BEFORE)
    shown = [text for text in machine.display.texts if "llama@" in text and "place" not in text]
    assert shown == [
        "start llama@code-max.service",
        "start llama@chat-max.service",
        "wait for llama@code-max.service",
        "waiting for llama@code-max.service",
        "wait for llama@chat-max.service",
        "waiting for llama@chat-max.service",
    ]


def test_the_outcome_says_how_long_it_took_and_what_was_killed_before() -> None:
    machine = a_machine(BEFORE)
    machine.journal.lines.append(("before", "write something"))
    machine.health.asks.clear()
    outcome = carry_out(machine, AFTER)
    assert outcome.resumed_after == Interrupted("write something")
    assert outcome.duration_s > 0
    assert machine.journal.lines[-1] == ("finish", "applied")


def test_nothing_to_do_leaves_no_trace() -> None:
    machine = a_machine(BEFORE)
    lines = list(machine.journal.lines)
    carry_out(machine, BEFORE)
    assert machine.watch.calls == []
    assert machine.journal.lines == lines


def calls_of(*starts: Desired, to: Desired) -> list[str]:
    machine = a_machine(*starts)
    carry_out(machine, to)
    return machine.watch.calls


TRANSITIONS = {
    "create": ((), BEFORE),
    "change": ((BEFORE,), AFTER),
    "back": ((AFTER,), BEFORE),
    "destroy": ((BEFORE,), nothing_desired(LAYOUT)),
    "switch": ((BEFORE,), Site(profile="mid").desired()),
}
CALLS = [(name, at) for name, (start, to) in TRANSITIONS.items() for at in range(len(calls_of(*start, to=to)))]


@pytest.mark.parametrize(("name", "at"), CALLS)
def test_a_failure_at_any_call_is_undone_to_the_initial_state(name: str, at: int) -> None:
    start, desired = TRANSITIONS[name]
    machine = a_machine(*start)
    before = machine.snapshot()
    machine.watch = Watch(at)
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, desired)
    codes = [problem.code for problem in caught.value.problems]
    if "remove generation" in machine.watch.calls[at]:
        assert (codes, caught.value.exit_code) == (["KI509", "KI511"], 4)
        assert machine.files.visible == desired.tree
        return
    assert machine.snapshot() == before
    touching = ("before stop", "before write", "before flip", "before start", "before restart")
    is_touched = any(call.startswith(touching) for call in machine.watch.calls[: at + 1])
    assert caught.value.exit_code == 3 or not is_touched
    assert codes == (["KI509"] if caught.value.exit_code == 1 else ["KI509", "KI585"])
    assert at == 0 or machine.journal.lines[-1] == ("finish", "undone")


@pytest.mark.parametrize(("name", "at"), CALLS)
def test_an_apply_killed_at_any_call_is_completed_by_the_next(name: str, at: int) -> None:
    start, desired = TRANSITIONS[name]
    machine = a_machine(*start)
    machine.watch = Watch(at, KilledError())
    with pytest.raises(KilledError):
        carry_out(machine, desired)
    carry_out(machine, desired)
    assert_as_desired(machine, desired)


@pytest.mark.parametrize(("name", "at"), CALLS[::7])
def test_an_apply_killed_at_any_call_can_be_taken_back(name: str, at: int) -> None:
    start, desired = TRANSITIONS[name]
    origin = start[0] if start else nothing_desired(LAYOUT)
    machine = a_machine(*start)
    machine.watch = Watch(at, KilledError())
    with pytest.raises(KilledError):
        carry_out(machine, desired)
    carry_out(machine, origin)
    assert_as_desired(machine, origin)


def test_a_kill_during_undo_is_completed_by_the_next_apply() -> None:
    total = len(calls_of(BEFORE, to=AFTER))
    for at in range(total // 2, total + 200):
        machine = a_machine(BEFORE)
        machine.manager.crashing = {"llama@embed-max.service"}
        machine.watch = Watch(at, KilledError())
        try:
            carry_out(machine, AFTER)
        except KilledError:
            machine.manager.crashing = set()
            carry_out(machine, AFTER)
            assert_as_desired(machine, AFTER)
        except StepFailedError:
            # Every call of the undo has been killed once.
            assert at > total // 2
            return
    pytest.fail("the undo has more calls than expected")


@pytest.mark.parametrize(("name", "at"), CALLS[::3])
def test_an_interruption_at_any_call_is_undone(name: str, at: int) -> None:
    start, desired = TRANSITIONS[name]
    machine = a_machine(*start)
    before = machine.snapshot()
    machine.watch = Watch(at, KeyboardInterrupt())
    if "journal begin" in calls_of(*start, to=desired)[at]:
        with pytest.raises(KeyboardInterrupt):
            carry_out(machine, desired)
        assert machine.snapshot() == before
        return
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, desired)
    codes = [problem.code for problem in caught.value.problems]
    if "remove generation" in machine.watch.calls[at]:
        assert (codes, caught.value.exit_code) == (["KI584", "KI511"], 4)
        assert machine.files.visible == desired.tree
        return
    assert machine.snapshot() == before
    assert codes == (["KI584"] if caught.value.exit_code == 1 else ["KI584", "KI585"])
    assert machine.journal.lines[-1] == ("finish", "undone")


def test_an_interruption_of_an_undo_does_not_keep_it_from_its_end() -> None:
    total = len(calls_of(BEFORE, to=AFTER))
    interrupted = 0
    for at in range(total // 2, total + 200):
        machine = a_machine(BEFORE)
        before = machine.snapshot()
        machine.manager.crashing = {"llama@embed-max.service"}
        machine.watch = Watch(at, KeyboardInterrupt())
        with pytest.raises(RolledBackError) as caught:
            carry_out(machine, AFTER)
        assert machine.snapshot() == before
        assert machine.journal.lines[-1] == ("finish", "undone")
        if at >= len(machine.watch.calls):
            break
        interrupted += any(text.startswith("undo: ") for text in machine.display.texts)
        assert caught.value.problems[0].code in ("KI584", "KI507")
    assert interrupted > 10


class RefusesToEnd(FakeJournal):
    """A journal whose disk is full when everything is done."""

    def finish(self, outcome: str) -> None:
        raise OSError(28, "No space left on device")


def test_an_end_that_cannot_be_written_down_undoes_nothing() -> None:
    machine = a_machine(BEFORE)
    made, _ = plan(AFTER, machine.observe(AFTER))
    apply(made, replace(machine.ports_of_apply(), journal=RefusesToEnd()))
    assert_as_desired(machine, AFTER)


def test_a_fault_of_our_own_is_undone_and_told_like_any_other_failure() -> None:
    machine = a_machine(BEFORE)
    before = machine.snapshot()
    at = calls_of(BEFORE, to=AFTER).index("after flip 2")
    machine.watch = Watch(at, ZeroDivisionError("by nothing"))
    with pytest.raises(RolledBackError) as caught:
        carry_out(machine, AFTER)
    assert [problem.code for problem in caught.value.problems] == ["KI598", "KI585"]
    assert "ZeroDivisionError in machine.py, line" in caught.value.problems[0].detail
    assert "by nothing" in caught.value.problems[0].detail
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert machine.snapshot() == before


def test_a_fault_while_an_old_generation_goes_does_not_go_back_to_it() -> None:
    machine = a_machine(BEFORE, AFTER)
    calls = calls_of(BEFORE, AFTER, to=nothing_desired(LAYOUT))
    machine.watch = Watch(calls.index("after remove generation 1"), ZeroDivisionError())
    with pytest.raises(LeftBehindError) as caught:
        carry_out(machine, nothing_desired(LAYOUT))
    assert [problem.code for problem in caught.value.problems] == ["KI598", "KI511"]
    assert "generation 1, generation 2" in caught.value.problems[1].detail
    assert machine.generations.current is None
    assert machine.manager.running == {}


def test_a_unit_that_ends_at_once_is_reported_with_its_log_and_undone() -> None:
    machine = a_machine(BEFORE)
    before = machine.snapshot()
    machine.manager.crashing = {"llama@embed-max.service"}
    machine.manager.logs["llama@embed-max.service"] = (*(f"line {i}" for i in range(20)), "cannot open \x1b[31mmodel")
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, AFTER)
    problem = caught.value.problems[0]
    assert problem.code == "KI507"
    assert "exit status 1 (exit-code)" in problem.detail
    assert problem.detail.count("\n") == 15
    assert "line 6\n" in problem.detail
    assert "line 5\n" not in problem.detail
    assert "\x1b" not in problem.detail
    assert machine.clock.time < 1
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    ("number", "name", "hint"),
    [
        (signal.SIGILL, "killed by SIGILL", "another processor"),
        (signal.SIGKILL, "killed by SIGKILL", "too little memory"),
    ],
)
def test_a_unit_that_a_signal_ends_is_reported_by_its_name(number: int, name: str, hint: str) -> None:
    machine = a_machine(BEFORE)
    machine.manager.crashing = {"llama@embed-max.service"}
    machine.manager.endings = {"llama@embed-max.service": ("signal", number)}
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, AFTER)
    problem = caught.value.problems[0]
    assert problem.code == "KI507"
    assert name in problem.detail
    assert hint in problem.hint


def test_a_unit_that_never_answers_is_given_up_at_its_deadline() -> None:
    machine = FakeMachine()
    machine.health.silent = {"http://127.0.0.1:8601/health"}
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, BEFORE)
    problem = caught.value.problems[0]
    assert problem.code == "KI508"
    assert "It wrote nothing" in problem.detail
    started = ("llama@code-max.service", "llama@chat-max.service")
    timeout_s = start_timeout_s(sum(unit.load_bytes for unit in BEFORE.units if unit.unit in started))
    assert timeout_s <= machine.clock.time < timeout_s + 1
    assert machine.manager.running == {}


class FailsToStop(FakeServiceManager):
    """A service manager that cannot stop one unit."""

    def stop(self, unit: str) -> None:
        if unit == "llama@embed-max.service":
            raise StepFailedError([Diagnostic("KI602", "A unit did not stop", unit, "")])
        super().stop(unit)


class RefusesEnd(FakeJournal):
    """A journal on a disk that fills up."""

    def undone(self, index: int, step: Mapping[str, object]) -> None:
        raise OSError(28, "No space left on device")

    def finish(self, outcome: str) -> None:
        raise OSError(28, "No space left on device")


class RestartsOnce:
    """A health check during which the service manager replaces a process that ended."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def is_ready(self, url: str, timeout_s: float) -> bool:
        self._machine.manager.restart("llama@code-max.service")
        return False


def test_a_process_that_is_replaced_while_we_wait_has_failed() -> None:
    machine = a_machine(BEFORE)
    machine.manager.stop("llama@code-max.service")
    made, _ = plan(replace(BEFORE, resets_pins=True), machine.observe(BEFORE))
    outside = machine.ports_of_apply()
    with pytest.raises(StepFailedError) as caught:
        apply(made, replace(outside, health=RestartsOnce(machine)))
    assert caught.value.problems[0].code == "KI507"


def test_an_undo_that_fails_is_reported_and_the_rest_is_undone() -> None:
    machine = a_machine(BEFORE)
    machine.manager.crashing = {"llama@embed-max.service"}
    made, _ = plan(AFTER, machine.observe(AFTER))
    failing = FailsToStop(machine.files)
    failing.__dict__.update(machine.manager.__dict__)
    with pytest.raises(StepFailedError) as caught:
        apply(made, replace(machine.ports_of_apply(), manager=failing))
    assert [problem.code for problem in caught.value.problems] == ["KI507", "KI510"]
    assert machine.files.visible == BEFORE.tree
    assert machine.journal.lines[-1] == ("finish", "undone in part")
    carry_out(machine, BEFORE)
    assert_as_desired(machine, BEFORE)


def test_a_full_disk_that_refuses_the_journal_does_not_stop_the_undo() -> None:
    machine = a_machine(BEFORE)
    before = machine.snapshot()
    machine.manager.crashing = {"llama@embed-max.service"}
    made, _ = plan(AFTER, machine.observe(AFTER))
    with pytest.raises(StepFailedError) as caught:
        apply(made, replace(machine.ports_of_apply(), journal=RefusesEnd()))
    assert [problem.code for problem in caught.value.problems] == ["KI507", "KI585"]
    assert machine.snapshot() == before


def test_weights_are_kept_by_destroy_and_removed_when_asked() -> None:
    machine = a_machine(BEFORE)
    carry_out(machine, nothing_desired(LAYOUT))
    assert len(machine.weights.stored) == 2
    carry_out(machine, nothing_desired(LAYOUT, with_weights=True))
    assert machine.weights.stored == {}


def test_weights_that_cannot_be_removed_do_not_bring_everything_back() -> None:
    machine = a_machine(BEFORE)
    calls = calls_of(BEFORE, to=nothing_desired(LAYOUT, with_weights=True))
    machine.watch = Watch(next(i for i, call in enumerate(calls) if call.startswith("before empty")))
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, nothing_desired(LAYOUT, with_weights=True))
    assert [problem.code for problem in caught.value.problems] == ["KI509", "KI511"]
    assert machine.files.visible == {}
    assert machine.manager.running == {}


def test_placed_weights_survive_a_failure_and_are_not_fetched_again() -> None:
    machine = FakeMachine()
    machine.manager.crashing = {"llama@code-max.service"}
    with pytest.raises(StepFailedError):
        carry_out(machine, BEFORE)
    made, _ = plan(BEFORE, machine.observe(BEFORE))
    assert not [step for step in made.steps if isinstance(step, PlaceWeights)]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_obstacles_are_found_together_before_anything_is_done(at: int) -> None:
    machine = FakeMachine()
    machine.weights.unreachable = {"code@1"}
    machine.files.free = 10**9
    machine.ports.held = {8611: Listener(42, "python3"), 5556: Listener(0)}
    with pytest.raises(ObstacleError) as caught:
        carry_out(machine, BEFORE)
    assert [problem.code for problem in caught.value.problems] == ["KI505", "KI506", "KI504", "KI504"]
    busy = [problem.detail for problem in caught.value.problems if problem.code == "KI504"]
    assert "a process of another user" in busy[0]
    assert "python3 (pid 42)" in busy[1]
    assert machine.watch.calls == []
    assert machine.files.record == Installed()


def test_a_generation_is_never_overwritten_but_by_the_apply_that_was_to_make_it() -> None:
    machine = a_machine(BEFORE)
    made, _ = plan(AFTER, machine.observe(AFTER))
    machine.generations.kept[2] = {}
    with pytest.raises(ObstacleError) as caught:
        apply(made, machine.ports_of_apply())
    assert [problem.code for problem in caught.value.problems] == ["KI558"]
    machine.files.record = replace(machine.files.record, staged=2)
    apply(made, machine.ports_of_apply())
    assert machine.generations.history().current == 2


class HeldWhileTheyRun(FakePorts):
    """Listeners that are there as long as the process runs that they belong to."""

    def __init__(self, manager: FakeServiceManager) -> None:
        super().__init__()
        self._manager = manager

    def listeners(self, port: int) -> tuple[Listener, ...]:
        states = self._manager.states(tuple(self._manager.running)).values()
        return tuple(one for one in super().listeners(port) if any(one.belongs_to(state.main_pid) for state in states))


def test_a_port_may_be_held_by_the_unit_that_restarts_or_by_a_child_of_it() -> None:
    machine = a_machine(BEFORE)
    machine.ports = HeldWhileTheyRun(machine.manager)
    states = machine.manager.states(["llama@code-max.service", "llama@chat-max.service"])
    # code moves to the port of chat, which stops; embed takes over that of code, which moves.
    machine.ports.held = {
        8601: Listener(states["llama@code-max.service"].main_pid, "llama-server"),
        8611: Listener(99999, "worker", (states["llama@chat-max.service"].main_pid, 1)),
    }
    carry_out(machine, AFTER)
    assert_as_desired(machine, AFTER)


def test_a_plan_with_refusals_is_not_begun() -> None:
    machine = FakeMachine()
    desired = Site(models=(MiniModel("code", {"max": 8601}, is_derived=True),)).desired()
    made, problems = plan(desired, machine.observe(desired))
    assert [problem.code for problem in problems] == ["KI502"]
    with pytest.raises(ObstacleError) as caught:
        apply(made, machine.ports_of_apply())
    assert [problem.code for problem in caught.value.problems] == ["KI503"]
    assert machine.watch.calls == []


def test_every_step_has_a_text_without_the_contents_of_files() -> None:
    made, _ = plan(AFTER, a_machine(BEFORE).observe(AFTER))
    texts = [describe(step) for step in made.steps]
    assert all(texts)
    assert not [text for text in texts if "\n" in text or "LLAMA_ARG" in text]


models = st.builds(
    MiniModel,
    name=st.sampled_from(["code", "chat", "embed", "tiny"]),
    ports=st.fixed_dictionaries({}, optional={"max": st.just(0), "mid": st.just(0)}),
    context=st.sampled_from([4096, 16000]),
    version=st.sampled_from(["1", "2"]),
    preload=st.booleans(),
    memory=st.sampled_from(["8G", "12G"]),
    description=st.sampled_from(["one", "two"]),
)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    chosen = draw(st.lists(models, max_size=3, unique_by=lambda model: model.name))
    numbered = tuple(
        MiniModel(
            model.name,
            {profile: 8600 + 10 * index + len(profile) for profile in model.ports},
            model.context,
            model.version,
            model.preload,
            memory=model.memory,
            description=model.description,
        )
        for index, model in enumerate(chosen)
    )
    return Site(
        models=numbered or (CODE,),
        profile=draw(st.sampled_from(["max", "mid"])),
        llama_server=draw(st.sampled_from(["/opt/a/llama-server", "/opt/b/llama-server"])),
        with_bus=draw(st.booleans()),
        extra=draw(st.dictionaries(st.sampled_from(["etc/a.conf", "etc/b.conf"]), st.text("ab\n", max_size=5))),
    )


@pytest.mark.untraced
@settings(max_examples=150, deadline=None)
@given(st.lists(sites(), min_size=1, max_size=3))
def test_after_any_apply_the_next_plan_is_empty(route: list[Site]) -> None:
    machine = FakeMachine()
    for site in route:
        desired = site.desired()
        carry_out(machine, desired)
        made, _ = plan(desired, machine.observe(desired))
        assert made.changes == ()
        assert made.steps == ()
        assert machine.files.visible == desired.tree
        assert_runs_by_what_is_there(machine)


@pytest.mark.untraced
@settings(max_examples=150, deadline=None)
@given(sites(), sites(), st.integers(0, 400))
def test_a_kill_anywhere_between_any_two_sites_is_completed(first: Site, second: Site, at: int) -> None:
    machine = a_machine(first.desired())
    machine.watch = Watch(at, KilledError())
    desired = second.desired()
    try:
        carry_out(machine, desired)
    except KilledError:
        carry_out(machine, desired)
    made, _ = plan(desired, machine.observe(desired))
    assert made.steps == ()
    assert machine.files.visible == desired.tree
    assert_runs_by_what_is_there(machine)


def at_generation(machine: FakeMachine, number: int) -> Desired:
    """Say what is wanted by going to a generation, as rollback does."""
    generation = read_generation(machine.generations, number)
    return desired_of(generation, LAYOUT, generation.manifest.profile)


def kept_files(machine: FakeMachine) -> dict[str, Artifact]:
    """Give the files that a generation is about: which profile is active is not."""
    return {path: file for path, file in machine.files.visible.items() if path != LAYOUT.profile_file}


@pytest.mark.untraced
@settings(max_examples=60, deadline=None)
@given(st.lists(sites(), min_size=2, max_size=4), st.data())
def test_from_any_generation_to_any_other_and_back_is_the_identity(route: list[Site], data: st.DataObject) -> None:
    machine = FakeMachine()
    seen: dict[int, dict[str, Artifact]] = {}
    for site in route:
        carry_out(machine, site.desired())
        number = machine.generations.current
        assert number is not None
        seen[number] = kept_files(machine)
    for _ in range(3):
        goal = data.draw(st.sampled_from(sorted(seen)))
        desired = at_generation(machine, goal)
        carry_out(machine, desired)
        made, problems = plan(desired, machine.observe(desired))
        assert (made.changes, made.steps, problems) == ((), (), ())
        assert machine.generations.history().current == machine.generations.last_good == goal
        assert kept_files(machine) == seen[goal]
        assert_runs_by_what_is_there(machine)
    assert machine.generations.history().numbers == tuple(sorted(seen))


def test_a_rollback_ends_what_came_later_and_brings_back_what_went() -> None:
    machine = a_machine(BEFORE, AFTER)
    carry_out(machine, at_generation(machine, 1))
    assert "llama@embed-max.service" not in machine.manager.running
    assert "llama@chat-max.service" in machine.manager.running
    assert kept_files(machine) == BEFORE.tree


def test_a_rollback_fetches_weights_that_are_gone_or_names_them() -> None:
    machine = a_machine(BEFORE, AFTER)
    chat = next(step for step in BEFORE.weights if step.key == "chat@1")
    del machine.weights.stored[chat.destination]
    machine.weights.unreachable = {"chat@1"}
    before = machine.snapshot()
    with pytest.raises(ObstacleError) as caught:
        carry_out(machine, at_generation(machine, 1))
    assert [(problem.code, problem.address) for problem in caught.value.problems] == [("KI505", "weights.chat@1")]
    assert machine.snapshot() == before
    machine.weights.unreachable = set()
    carry_out(machine, at_generation(machine, 1))
    assert chat.destination in machine.weights.stored
    assert kept_files(machine) == BEFORE.tree


def test_an_apply_keeps_as_many_generations_as_it_is_told_and_always_the_one_before() -> None:
    machine = FakeMachine()
    for context in range(1, 6):
        site = Site(models=(replace(CODE, context=context),))
        carry_out(machine, replace(site.desired(), keep_generations=3))
    assert machine.generations.history().numbers == (3, 4, 5)
    carry_out(machine, at_generation(machine, 3))
    carry_out(machine, replace(BEFORE, keep_generations=1))
    assert machine.generations.history().numbers == (3, 6)


def test_a_current_generation_that_is_gone_gives_up_neither_its_number_nor_its_place() -> None:
    machine = a_machine(BEFORE)
    machine.generations.kept.clear()
    carry_out(machine, BEFORE)
    assert machine.generations.history() == History((2,), 2, 2)
    assert_as_desired(machine, BEFORE)


def test_a_gate_that_does_not_let_a_unit_through_rolls_back() -> None:
    machine = a_machine(BEFORE)
    before = machine.snapshot()
    machine.gate.closed = {"llama@embed-max.service"}
    with pytest.raises(RolledBackError) as caught:
        carry_out(machine, AFTER)
    assert [problem.code for problem in caught.value.problems] == ["KI599", "KI585"]
    assert machine.snapshot() == before


def test_a_unit_that_the_rollback_does_not_bring_back_is_named() -> None:
    machine = a_machine(BEFORE)
    machine.manager.crashing = {"llama@embed-max.service", "llama@code-max.service"}
    with pytest.raises(LeftBehindError) as caught:
        carry_out(machine, AFTER)
    assert caught.value.exit_code == 4
    named = [problem.address for problem in caught.value.problems if problem.code == "KI586"]
    assert named == ["llama@code-max.service"]
    assert machine.files.visible == BEFORE.tree


def test_staged_units_that_do_not_pass_stop_apply_before_anything_is_touched() -> None:
    machine = a_machine(BEFORE)
    before = machine.snapshot()
    machine.staged_check.found = {2: (Diagnostic("KI599", "Bad unit", "x", ""),)}
    with pytest.raises(StepFailedError) as caught:
        carry_out(machine, AFTER)
    assert caught.value.exit_code == 1
    assert machine.snapshot() == before
    assert not [call for call in machine.watch.calls if call.startswith(("before stop", "before flip"))]


def test_units_that_failed_are_forgiven_before_they_start() -> None:
    machine = a_machine(BEFORE)
    machine.manager.stop("llama@code-max.service")
    machine.manager.crashing = {"llama@code-max.service"}
    machine.manager.start("llama@code-max.service")
    machine.manager.crashing = set()
    machine.display.texts.clear()
    carry_out(machine, BEFORE)
    assert machine.display.texts.index("forget failures of llama@code-max.service") < machine.display.texts.index(
        "start llama@code-max.service"
    )


def test_a_manifest_survives_being_written_down() -> None:
    manifest = manifest_of(AFTER, 3)
    assert manifest_json.from_text(manifest_json.to_text(manifest)) == manifest
    assert manifest_json.from_text("{}") is None


def test_a_manifest_of_a_newer_program_is_read_as_long_as_its_version_is_known() -> None:
    text = manifest_json.to_text(manifest_of(AFTER, 3))
    assert '"version": 1' in text
    assert manifest_json.from_text(text.replace('"version": 1', '"version": 1, "more": {"a": 1}')) is not None
    assert manifest_json.from_text(text.replace('"version": 1', '"version": 2')) is None
    # Before there was a version.
    assert manifest_json.from_text(text.replace('"version": 1,', "")) == manifest_of(AFTER, 3)
