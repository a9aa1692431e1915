"""kill -9 of an apply within its steps: before every change to the disk, recover leads to one generation or the other.

Steps make folders, write files, link, rename and remove; each such call is where the kernel may end the process. They
are enumerated, not sampled: an audit hook (PEP 578) in a real process sees every one of them, and kills it there.
Between two calls nothing changes on the disk, so what is found after each kill is all that a kill can ever leave.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.cli.confirming import confirm_apply
from kloros_infra.cli.history import recover, roll_back
from kloros_infra.cli.wiring import Target, generations_of, journal_of, observe_target
from kloros_infra.ir.artifact import TextFile
from kloros_infra.planner.desired import Desired, nothing_desired
from kloros_infra.planner.diff import plan
from tests.tiny_site import ALL, ONE, QUIETLY, TWO, apply_quietly, carry_out_confirmed, running, tiny, tree_of

WAIT_S = 30.0
CHANGING = frozenset({"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod"})
PASSING = (
    "var/lib/kloros-infra/journal",
    "var/lib/kloros-infra/lock",
    "var/lib/kloros-infra/confirm.log",
    "var/log",
    "run/kloros/supervisor",
)
"""What tells of the runs themselves, or belongs to the supervisor."""

Work = Callable[[], object]


@dataclass
class Calls:
    """Counts calls that change the disk below a root, and kills the process before number `at`."""

    root: str
    at: int | None
    count: int = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._is_change(event, arguments):
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1

    def _is_change(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            return isinstance(flags, int) and bool(flags & os.O_CREAT) and str(path).startswith(self.root)
        if event not in CHANGING:
            return False
        # Names are relative where a folder is given by its descriptor, as shutil.rmtree does.
        return str(arguments[0]).startswith(self.root) or not str(arguments[0]).startswith("/")


def killed_at(work: Work, where: Target, at: int | None) -> int | None:
    """Do it in a process of its own that is killed before call `at`; give how many there are when it was not."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            calls = Calls(str(where.root), at)
            sys.addaudithook(calls)
            work()
            os.write(writing, str(calls.count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(reading) as pipe:
        count = pipe.read()
    assert code in (0, -signal.SIGKILL)
    return int(count) if code == 0 else None


def whole(where: Target) -> dict[str, str]:
    return {path: found for path, found in tree_of(where.root).items() if not path.startswith(PASSING)}


def one(where: Target) -> Desired:
    return tiny(where, ONE, note="one")


def two(where: Target) -> Desired:
    return tiny(where, TWO, note="two")


def other_routes(where: Target) -> Desired:
    desired = one(where)
    return replace(desired, tree={**desired.tree, where.layout.routing: TextFile('{"services": []}\n')})


def assert_settled(where: Target, goal: Desired) -> None:
    observed = observe_target(goal, where)
    made, problems = plan(goal, observed)
    assert (made.steps, problems) == ((), ())
    assert journal_of(where).unfinished() is None


@pytest.mark.parametrize("wanted", [two, other_routes], ids=["change", "routes alone"])
def test_an_apply_killed_at_any_change_to_the_disk_leaves_one_generation_or_the_other(
    where: Target, wanted: Callable[[Target], Desired]
) -> None:
    goal = wanted(where)
    services = TWO if wanted is two else ONE
    apply_quietly(one(where), where)
    first = whole(where)
    total = killed_at(lambda: apply_quietly(goal, where), where, None)
    assert total is not None
    assert total > 30
    second = whole(where)
    outcomes = []
    for at in range(total):
        if whole(where) != first:
            roll_back(where, 1, QUIETLY)
            generations_of(where).remove(2)
            assert whole(where) == first
        assert killed_at(lambda: apply_quietly(goal, where), where, at) is None
        recover(where, replace(QUIETLY, wait_s=WAIT_S))
        is_done = generations_of(where).history().current == 2
        outcomes.append(is_done)
        assert whole(where) == (second if is_done else first), at
        assert running(where, ALL) == (services if is_done else ONE), at
        assert_settled(where, goal if is_done else one(where))
    # Undone up to the switch, completed from there on: never back and forth.
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)


def test_a_rollback_killed_at_any_change_to_the_disk_leaves_one_generation_or_the_other(where: Target) -> None:
    apply_quietly(one(where), where)
    apply_quietly(two(where), where)
    second = whole(where)
    total = killed_at(lambda: roll_back(where, 1, QUIETLY), where, None)
    assert total is not None
    first = whole(where)
    outcomes = []
    for at in range(total):
        if whole(where) != second:
            roll_back(where, 2, QUIETLY)
            assert whole(where) == second
        assert killed_at(lambda: roll_back(where, 1, QUIETLY), where, at) is None
        recover(where, QUIETLY)
        is_done = generations_of(where).history().current == 1
        outcomes.append(is_done)
        assert whole(where) == (first if is_done else second), at
        assert running(where, ALL) == (ONE if is_done else TWO), at
    assert outcomes == sorted(outcomes)
    assert {False, True} == set(outcomes)


def test_a_destroy_killed_at_any_change_to_the_disk_is_undone_or_completed(where: Target) -> None:
    apply_quietly(one(where), where)
    first = whole(where)
    nothing = nothing_desired(where.layout)
    total = killed_at(lambda: apply_quietly(nothing, where), where, None)
    assert total is not None
    bare = whole(where)
    for at in range(total):
        if whole(where) != first:
            apply_quietly(one(where), where)
            assert whole(where) == first
        assert killed_at(lambda: apply_quietly(nothing, where), where, at) is None
        recover(where, QUIETLY)
        is_done = generations_of(where).history().current is None
        assert whole(where) == (bare if is_done else first), at
        assert running(where, ALL) == ({} if is_done else ONE), at


def test_an_apply_to_be_confirmed_that_is_killed_is_undone_and_one_that_ended_waits(where: Target) -> None:
    apply_quietly(one(where), where)
    first = whole(where)
    # The process that watches over the apply before may look whether that one is still at work.
    patient = replace(QUIETLY, wait_s=WAIT_S)

    def work() -> None:
        carry_out_confirmed(two(where), where, patient, within_s=3600)

    total = killed_at(work, where, None)
    assert total is not None
    confirm_apply(where)
    second = whole(where)
    # Each has a process of its own that watches: a few of the calls are enough, those of the end among them.
    for at in (*range(0, total - 4, 9), *range(total - 4, total)):
        if whole(where) != first:
            roll_back(where, 1, patient)
            generations_of(where).remove(2)
            assert whole(where) == first
        assert killed_at(work, where, at) is None
        waiting = Confirmation(where.root).read()
        if waiting is not None and waiting.left_s is not None and not waiting.is_over:
            confirm_apply(where)
            assert whole(where) == second, at
            continue
        recover(where, patient)
        # What was current for a moment is kept, as after any rollback.
        kept = f"{where.layout.generations}/2"
        assert {path: found for path, found in whole(where).items() if not path.startswith(kept)} == first, at
        assert running(where, ALL) == ONE, at
        assert Confirmation(where.root).read() is None
