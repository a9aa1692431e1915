"""kill -9 of an apply before and after every line of its journal: recover leads to one generation or the other.

The kills are enumerated from the journal of an undisturbed run. Each is a real process that ends itself by SIGKILL
while it changes real files and real services of the embedded supervisor.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.adapters.journal_file import JOURNAL_FOLDER
from kloros_infra.cli.changing import carry_out_locked
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import desired_at, recover, roll_back
from kloros_infra.cli.wiring import Target, generations_of, journal_of, locked_machine, observe_target
from kloros_infra.errors import LeftBehindError, RolledBackError
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.ports import Journal
from kloros_infra.ir.generation import Interrupted
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from tests.tiny_site import QUIETLY, apply_quietly, broken, end, running, target_at, tiny, tree_of

ONE = {"kloros-a.service": "1", "kloros-b.service": "1", "kloros-c.service": "1"}
TWO = {"kloros-a.service": "2", "kloros-b.service": "1", "kloros-d.service": "1"}
ALL = frozenset({*ONE, *TWO})
PASSING = ("var/lib/kloros-infra/journal", "var/lib/kloros-infra/lock", "var/log", "run/kloros/supervisor")
"""What differs from run to run: times, process numbers and sockets."""

Run = Callable[[Machine, ProgressDisplay], object]


@dataclass
class DeadlyJournal:
    """Kills its own process before or after line number `at` is written."""

    journal: Journal
    at: int
    is_after: bool
    lines: int = 0

    def begin(self, apply: Mapping[str, object]) -> None:
        self._around(lambda: self.journal.begin(apply))

    def before(self, index: int, step: Mapping[str, object]) -> None:
        self._around(lambda: self.journal.before(index, step))

    def after(self, index: int, step: Mapping[str, object]) -> None:
        self._around(lambda: self.journal.after(index, step))

    def undone(self, index: int, step: Mapping[str, object]) -> None:
        self._around(lambda: self.journal.undone(index, step))

    def finish(self, outcome: str) -> None:
        self._around(lambda: self.journal.finish(outcome))

    def unfinished(self) -> Interrupted | None:
        return self.journal.unfinished()

    def _around(self, write: Callable[[], None]) -> None:
        if self.lines == self.at and not self.is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        write()
        if self.lines == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.lines += 1


@dataclass(frozen=True, slots=True)
class State:
    """All that counts of a root: its files, byte for byte, its marks, and by which version each service runs."""

    files: Mapping[str, str]
    services: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Passage:
    """One apply: what was applied before it, in order, and where it is to lead."""

    before: tuple[Mapping[str, str], ...]
    aim: Callable[[Target], Desired]

    def prepare(self, where: Target) -> State:
        """Bring a root to where the apply begins, generations counted anew."""
        apply_quietly(nothing_desired(where.layout), where)
        for services in self.before:
            apply_quietly(wanted(where, services), where)
        return state_of(where)

    def run(self, where: Target, start: State | None = None) -> Run:
        """Give the apply; with the state that it starts from, bring the root there first unless it is."""
        if start is not None and state_of(where) != start:
            self._go_back(where)
            assert state_of(where) == start or self.prepare(where) == start
        return lambda machine, display: carry_out_locked(
            self.aim(where), where, QUIETLY, machine=machine, display=display
        )

    def _go_back(self, where: Target) -> None:
        """Go where the apply begins the short way, if the generation is still there."""
        number, numbers = len(self.before), generations_of(where).history().numbers
        if number in numbers:
            roll_back(where, number, QUIETLY)
            for later in numbers[number:]:
                generations_of(where).remove(later)


def wanted(where: Target, services: Mapping[str, str]) -> Desired:
    return tiny(where, services, note="two" if services is TWO else "one")


PASSAGES = {
    "first": Passage((), lambda where: wanted(where, TWO)),
    "change": Passage((ONE,), lambda where: wanted(where, TWO)),
    "rollback": Passage((ONE, TWO), lambda where: desired_at(where, 1)),
    "destroy": Passage((TWO,), lambda where: nothing_desired(where.layout)),
}
FAILING = Passage((ONE,), lambda where: broken(where, TWO))


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Target]:
    one = target_at(tmp_path / "root")
    # Folders of the machine's own that the first apply would make, and that destroy leaves to `leave`.
    apply_quietly(wanted(one, TWO), one)
    yield one
    end(one)


def state_of(where: Target) -> State:
    files = {path: found for path, found in tree_of(where.root).items() if not path.startswith(PASSING)}
    return State(files, running(where, ALL))


def difference(one: State, other: State) -> dict[str, tuple[str | None, str | None]]:
    """Name what differs between two states."""
    a, b = ({**state.files, **state.services} for state in (one, other))
    return {name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)}


def killed(where: Target, run: Run, at: int, *, is_after: bool) -> None:
    """Run in a process that kills itself at a line of the journal."""

    def inside() -> None:
        display = ProgressDisplay()
        with locked_machine(where, display) as machine:
            run(replace(machine, journal=DeadlyJournal(machine.journal, at, is_after)), display)

    assert ends_by_a_kill(inside), f"line {at} was never written"


def ends_by_a_kill(inside: Callable[[], None]) -> bool:
    """Say whether a process that does this comes to kill itself; it may only end well otherwise."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            inside()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def every_kill(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, bool]]:
    """Enumerate the lines of an undisturbed run, before and after each.

    Nothing happens between the line after a step and the line before the next: these are one and the same kill.
    """
    for at, following in enumerate((*rows[1:], None)):
        yield at, False
        if following is None or following["event"] not in ("before", "finish"):
            yield at, True


def last_journal(where: Target) -> list[dict[str, Any]]:
    """Read the journal of an apply that came to its end."""
    files = sorted((where.root / JOURNAL_FOLDER).iterdir())
    rows: list[dict[str, Any]] = [json.loads(line) for line in files[-1].read_text().splitlines()]
    assert (rows[0]["event"], rows[-1]["event"]) == ("begin", "finish")
    return rows


def line_of(rows: Sequence[Mapping[str, Any]], event: str, kind: str) -> int:
    """Find the line before or after a kind of step."""
    return [(row["event"], row.get("step", {}).get("kind")) for row in rows].index((event, kind))


def undisturbed(where: Target, run: Run) -> tuple[State, list[dict[str, Any]]]:
    """Run to the end; give the state after it, and the lines that it wrote to the journal."""
    display = ProgressDisplay()
    with locked_machine(where, display) as machine:
        run(machine, display)
    return state_of(where), last_journal(where)


def assert_at_rest(where: Target) -> None:
    """Assert that nothing is left to do: no interrupted apply, no half-made file, and an empty plan."""
    assert journal_of(where).unfinished() is None
    assert not [path for path in state_of(where).files if "/." in path]
    history = generations_of(where).history()
    assert history.last_good == history.current
    desired = desired_at(where, history.current)
    made, problems = plan(desired, observe_target(desired, where))
    assert (made.steps, problems) == ((), ())


@pytest.mark.parametrize("name", PASSAGES)
def test_recover_after_every_kill_gives_one_generation_or_the_other(
    name: str, where: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    passage = PASSAGES[name]
    start = passage.prepare(where)
    goal, rows = undisturbed(where, passage.run(where))
    assert start != goal
    outcomes = []
    for at, is_after in every_kill(rows):
        killed(where, passage.run(where, start), at, is_after=is_after)
        recover(where, QUIETLY)
        now = state_of(where)
        assert now in (start, goal), (at, is_after)
        assert_at_rest(where)
        outcomes.append(now == goal)
    # Undone up to the flip, completed from there on: never back and forth.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {False, True}
    assert "interrupted at" in capsys.readouterr().out


def test_a_kill_of_an_apply_that_fails_and_of_its_undoing_leads_back_to_what_ran(where: Target) -> None:
    start = FAILING.prepare(where)
    with pytest.raises(RolledBackError):
        undisturbed(where, FAILING.run(where))
    assert state_of(where) == start
    for at, is_after in every_kill(last_journal(where)):
        killed(where, FAILING.run(where, start), at, is_after=is_after)
        if generations_of(where).history().current == 2:
            # The one that fails is tried, and the last good one taken instead.
            with pytest.raises(LeftBehindError, match="KI592"):
                recover(where, QUIETLY)
            generations_of(where).remove(2)
        else:
            recover(where, QUIETLY)
        assert state_of(where) == start
        assert_at_rest(where)


@pytest.mark.parametrize("event", ["before", "after"])
def test_a_kill_of_recover_itself_is_recovered_from(where: Target, event: str) -> None:
    """Where units have stopped and none has started, once with the old generation current and once with the new."""
    passage = PASSAGES["change"]
    start = passage.prepare(where)
    goal, rows = undisturbed(where, passage.run(where))
    expected = goal if event == "after" else start

    def interrupt() -> None:
        killed(where, passage.run(where, start), line_of(rows, event, "FlipCurrent"), is_after=True)

    interrupt()
    kills = 0
    while ends_by_a_kill(partial(recover_and_die, where, kills)):
        recover(where, QUIETLY)
        assert difference(state_of(where), expected) == {}, kills
        assert_at_rest(where)
        kills += 1
        interrupt()
    assert difference(state_of(where), expected) == {}
    assert kills > 10


def recover_and_die(where: Target, at: int) -> None:
    """Kill recover before it writes line number `at` of its journal: between any two of its steps."""
    journal, lines = str(where.root / JOURNAL_FOLDER), count()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        # PEP 578: an event is raised before the call is made.
        is_line = event == "open" and arguments[2] & os.O_APPEND and str(arguments[0]).startswith(journal)
        if is_line and next(lines) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    recover(where, QUIETLY)


def test_a_second_recover_has_nothing_to_do(where: Target) -> None:
    passage = PASSAGES["change"]
    passage.prepare(where)
    killed(where, passage.run(where), 12, is_after=True)
    recover(where, QUIETLY)
    before = state_of(where)
    recover(where, QUIETLY)
    assert state_of(where) == before


def test_going_to_a_generation_that_was_staged_and_never_current(where: Target) -> None:
    passage = PASSAGES["change"]
    start = passage.prepare(where)
    goal, rows = undisturbed(where, passage.run(where))
    killed(where, passage.run(where, start), line_of(rows, "before", "FlipCurrent"), is_after=True)
    roll_back(where, 2, QUIETLY)
    assert state_of(where) == goal
