"""When the agent looks, and what it tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.agent.watch import Watch, WatchTimes
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import LockHeldError
from kloros_infra.ir.card_facts import DeclaredCard, Holder
from kloros_infra.ir.layout import Layout
from tests.fakes.agent_world import GIB, LAYOUT, World

SOON_S = (0.1, 0.3, 1.0)
TIMES = WatchTimes(soon_s=SOON_S, look_s=2.0, mute_look_s=10.0, again_s=60.0, settle_s=0.05)


class Waits:
    """Implements `agent.ports.Wakes`: waiting lets time pass at once, and `at` the given time something happens."""

    def __init__(self, world: World) -> None:
        self.waited: list[float] = []
        self.nudges = 0
        self.happenings: dict[int, Callable[[], bool]] = {}
        self._world = world

    def wait(self, timeout_s: float) -> bool:
        self.waited.append(round(timeout_s, 2))
        happens = self.happenings.get(len(self.waited), lambda: False)
        self._world.later(timeout_s)
        return happens()

    def nudge(self) -> None:
        self.nudges += 1

    def settle(self, time_s: float) -> None:
        self._world.later(time_s)


class Heard:
    """Implements `agent.ports.CardEvents`."""

    def __init__(self) -> None:
        self.cards: list[list[str]] = []

    def follow(self, cards: Sequence[DeclaredCard]) -> None:
        self.cards.append([card.name for card in cards])


def refuse() -> AbstractContextManager[None]:
    """Stand for a lock that another process holds."""
    raise LockHeldError([Diagnostic(code="KI907", summary="", detail="", hint="")])


class Scene:
    """A watch and its world."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.waits = Waits(self.world)
        self.heard = Heard()
        self.watch = Watch(self.world.outside, self.waits, self.heard, TIMES)

    def await_change(self) -> list[float]:
        """Wait once, and give the single waits."""
        self.waits.waited.clear()
        self.world.done_since()
        self.watch.await_change()
        return self.waits.waited


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.watch.reconcile()
    return made


def test_it_looks_again_after_a_minute_if_nothing_happens(scene: Scene) -> None:
    waited = scene.await_change()
    assert waited[:3] == list(SOON_S)
    assert set(waited[3:-1]) == {2.0}
    assert sum(waited) == pytest.approx(60.0 - 0.05, abs=0.01)
    assert scene.world.done.count("asked rtx5080 rtx3060") == len(waited)


def test_it_goes_on_at_once_when_something_happens(scene: Scene) -> None:
    scene.waits.happenings[3] = lambda: True
    assert len(scene.await_change()) == 3


def vanish(world: World) -> bool:
    world.there.remove("rtx3060")
    return False


def a_game(world: World) -> bool:
    world.used_bytes["rtx5080"] += 64 * 2**20
    return False


def a_process(world: World) -> bool:
    world.holders["rtx5080"] = (Holder(7, "game", 0),)
    return False


def no_driver(world: World) -> bool:
    world.trouble = "gone"
    return False


@pytest.mark.parametrize("happens", [vanish, a_game, a_process, no_driver])
def test_it_goes_on_when_it_sees_a_change_that_nobody_reports(scene: Scene, happens: Callable[[World], bool]) -> None:
    scene.waits.happenings[2] = lambda: happens(scene.world)
    assert scene.await_change() == list(SOON_S[:2])


def test_while_the_driver_does_not_answer_it_is_asked_less_often(scene: Scene) -> None:
    scene.world.is_stale = True
    scene.watch.reconcile()
    assert set(scene.await_change()[:-1]) == {10.0}


def test_small_changes_add_up(scene: Scene) -> None:
    def a_little() -> bool:
        scene.world.used_bytes["rtx5080"] += 20 * 2**20
        return False

    scene.waits.happenings = dict.fromkeys(range(1, 10), a_little)
    assert len(scene.await_change()) == 4


def test_it_looks_when_the_decision_would_change(scene: Scene) -> None:
    scene.world.used_bytes["rtx5080"], scene.world.holders["rtx5080"] = 9 * GIB, (Holder(7, "game", 9 * GIB),)
    scene.watch.reconcile()
    assert sum(scene.await_change()) == pytest.approx(2.0 - 0.05)
    scene.watch.reconcile()
    assert scene.world.profile == "mid"


def test_with_no_card_there_the_driver_is_left_alone(scene: Scene) -> None:
    scene.world.there.clear()
    scene.watch.reconcile()
    assert len(scene.await_change()) > 20
    assert not scene.world.done


def test_events_are_heard_of_cards_that_are_ours_to_use(scene: Scene) -> None:
    assert scene.heard.cards == [["rtx5080", "rtx3060"]]
    scene.world.say(LAYOUT.lockout_file, '{"lockout_gpus": ["rtx5080"]}')
    scene.watch.reconcile()
    assert scene.heard.cards[-1] == ["rtx3060"]


def test_a_switch_is_told_and_a_problem_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.world.say(LAYOUT.lockout_file, "{")
    scene.world.there.remove("rtx5080")
    for _ in range(3):
        scene.watch.reconcile()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[0].startswith("KI901 Lockout file not understood: ")
    assert caplog.messages[1].startswith("profile mid: 'mid' has its cards rtx3060; 'max' lacks rtx5080 (absent)")
    (scene.world.root / LAYOUT.lockout_file).unlink()
    scene.watch.reconcile()
    scene.world.say(LAYOUT.lockout_file, "{")
    scene.watch.reconcile()
    assert len(caplog.records) == 3


def test_what_cannot_be_written_is_told_and_tried_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    folder = scene.world.root / Layout().run
    folder.rename(folder.with_name("kept"))
    folder.write_text("in the way")
    scene.world.there.remove("rtx5080")
    scene.watch.reconcile()
    assert "KI908" in caplog.messages[0]
    folder.unlink()
    folder.with_name("kept").rename(folder)
    scene.await_change()
    scene.watch.reconcile()
    assert scene.world.profile == "mid"


def test_what_cannot_be_written_is_tried_again_soon_not_at_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.world.used_bytes["rtx5080"], scene.world.holders["rtx5080"] = 9 * GIB, (Holder(7, "game", 9 * GIB),)
    scene.watch.reconcile()
    scene.world.later(5.0)
    folder = scene.world.root / Layout().run
    folder.rename(folder.with_name("kept"))
    folder.write_text("in the way")
    caplog.clear()
    for _ in range(3):
        scene.watch.reconcile()
        # Neither the time at which the decision changes, nor what is seen anew, is a reason to hurry.
        assert scene.await_change() == [2.0]
    assert [message[:5] for message in caplog.messages] == ["KI908"]
    folder.unlink()
    folder.with_name("kept").rename(folder)
    scene.watch.reconcile()
    assert (scene.world.profile, len(scene.await_change()) > 10) == ("mid", True)


def test_a_try_that_failed_after_a_switch_is_no_switch(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.world.there.remove("rtx5080")
    scene.watch.reconcile()
    scene.watch.outside = replace(scene.world.outside, lock=refuse)
    scene.watch.reconcile()
    scene.watch.reconcile()
    assert [message[:11] for message in caplog.messages] == ["profile mid", "KI907 :  "]


def test_a_wish_that_was_raised_while_the_lock_was_held_is_followed_soon(scene: Scene) -> None:
    scene.watch.outside = replace(scene.world.outside, lock=refuse)
    scene.watch.reconcile()
    assert scene.await_change() == [2.0]


def test_a_flag_that_still_stands_is_looked_at_soon(scene: Scene) -> None:
    scene.world.say(LAYOUT.dirty_file, "")
    assert scene.await_change() == [2.0]


def test_a_lock_that_is_held_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path)
    watch = Watch(replace(world.outside, lock=refuse), Waits(world), Heard(), TIMES)
    watch.reconcile()
    assert "KI907" in caplog.messages[0]
    watch.outside = world.outside
    watch.reconcile()
    assert world.profile == "max"


def test_it_is_ready_once_a_profile_is_chosen_and_then_goes_on(scene: Scene) -> None:
    ready: list[str] = []

    def end() -> bool:
        if len(scene.waits.waited) < 2:
            scene.world.there.discard("rtx5080")
            return True
        scene.world.there.discard("rtx3060")
        scene.watch.stop()
        return True

    scene.waits.happenings = dict.fromkeys(range(1, 4), end)
    scene.watch.run(lambda: ready.append(scene.world.profile))
    assert (ready, scene.world.profile, scene.waits.nudges) == (["max"], "mid", 1)


def test_who_stops_it_while_it_reconciles_lets_it_come_to_its_end(scene: Scene) -> None:
    scene.watch.run(scene.watch.stop)
    assert (scene.world.profile, scene.waits.nudges) == ("max", 1)
