"""kill -9 of an apply before and after every line of its journal: recover leads to one generation or the other.

The kills are enumerated from the journal of an undisturbed run. Each is a real process that ends itself by SIGKILL
while it changes real files and real services of the embedded supervisor.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kloros_infra.adapters.journal_file import JOURNAL_FOLDER
from kloros_infra.cli.changing import carry_out_locked
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.history import desired_at, recover
from kloros_infra.cli.wiring import Target, generations_of, journal_of, locked_machine, observe_target
from kloros_infra.executor.ports import Journal
from kloros_infra.ir.generation import Interrupted
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from tests.tiny_site import QUIETLY, apply_quietly, end, running, target_at, tiny, tree_of

ONE = {"kloros-a.service": "1", "kloros-b.service": "1", "kloros-c.service": "1"}
TWO = {"kloros-a.service": "2", "kloros-b.service": "1", "kloros-d.service": "1"}
ALL = frozenset({*ONE, *TWO})


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

    def _around(self, write: object) -> None:
        assert callable(write)
        if self.lines == self.at and not self.is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        write()
        if self.lines == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.lines += 1


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Target]:
    one = target_at(tmp_path / "root")
    yield one
    end(one)


def killed_apply(desired: Desired, where: Target, at: int, *, is_after: bool) -> bool:
    """Apply in a process that kills itself; say whether it came that far."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            display = ProgressDisplay()
            with locked_machine(where, display) as machine:
                deadly = replace(machine, journal=DeadlyJournal(machine.journal, at, is_after))
                carry_out_locked(desired, where, QUIETLY, machine=deadly, display=display)
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def machine_tree(where: Target) -> dict[str, str]:
    """Describe what matters of a root: its files and generations, without state, sockets and logs."""
    passing = ("var/lib/kloros-infra", "var/log", "run/kloros/supervisor")
    return {path: found for path, found in tree_of(where.root).items() if not path.startswith(passing)}


def assert_exactly(where: Target, wanted: Desired, services: Mapping[str, str], kept: tuple[int, ...]) -> None:
    history = generations_of(where).history()
    assert history.numbers == kept
    assert history.last_good == history.current
    observed = observe_target(wanted, where)
    assert observed.files == wanted.tree
    assert not observed.installed.is_unfinished
    made, problems = plan(wanted, observed)
    assert (made.steps, problems) == ((), ())
    assert running(where, ALL) == services
    assert journal_of(where).unfinished() is None
    assert not [path for path in machine_tree(where) if "/." in path]


def lines_of_last_journal(where: Target) -> int:
    files = sorted((where.root / JOURNAL_FOLDER).iterdir())
    lines = [json.loads(line) for line in files[-1].read_text().splitlines()]
    assert lines[0]["event"] == "begin"
    assert lines[-1]["event"] == "finish"
    return len(lines)


TRANSITIONS = {
    "first": (None, TWO),
    "change": (ONE, TWO),
    "destroy": (TWO, None),
}


def wanted(where: Target, services: Mapping[str, str] | None) -> Desired:
    if services is None:
        return nothing_desired(where.layout)
    return tiny(where, services, note="two" if services is TWO else "one")


@pytest.mark.parametrize("name", TRANSITIONS)
def test_recover_after_every_kill_gives_one_generation_or_the_other(
    name: str, where: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    start, goal = TRANSITIONS[name]
    apply_quietly(wanted(where, start), where)
    apply_quietly(wanted(where, goal), where)
    total = lines_of_last_journal(where)
    outcomes = []
    for at in range(total):
        for is_after in (False, True):
            apply_quietly(nothing_desired(where.layout), where)
            apply_quietly(wanted(where, start), where)
            before = machine_tree(where)
            assert killed_apply(wanted(where, goal), where, at, is_after=is_after)
            recover(where, QUIETLY)
            is_done = generations_of(where).history().current != (None if start is None else 1)
            outcomes.append(is_done)
            numbers = tuple(n for n in ((1,) if start else ()) if goal or not is_done) + (
                ((2 if start else 1),) if is_done and goal else ()
            )
            now = goal if is_done else start
            assert_exactly(where, wanted(where, now), now or {}, numbers)
            assert is_done or machine_tree(where) == before
    # Undone up to the flip, completed from there on: never back and forth.
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)
    assert "interrupted at" in capsys.readouterr().out


def test_a_second_recover_has_nothing_to_do(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    assert killed_apply(tiny(where, TWO), where, 12, is_after=True)
    recover(where, QUIETLY)
    before = tree_of(where.root)
    recover(where, QUIETLY)
    assert tree_of(where.root) == before
    current = generations_of(where).history().current
    assert current is not None
    assert desired_at(where, current).generation == current
