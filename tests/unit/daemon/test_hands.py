"""Units, health checks, toggles and the journal: what the desk wants is done, and what came of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.line_journal import LineJournal
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.lease_log import BREATH_S, MOST_LINES, LeaseLog
from kloros_infra.daemon.unit_keeper import UnitLimits
from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Allocated, AllocationChange, Announce, Refuse, Send, Target
from kloros_infra.router.events import Asked, Doubted, Ended, Outcome, StartAsked, StopAsked, Ticked, Verdict
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.unit_control import FakeUnitControl
from tests.unit.daemon.test_desk import Hearer, until

INSTANCE, UNIT = "small-cpu_only", "llama@small-cpu_only.service"
TABLE = a_routing_table(a_routed_model("small", an_upstream(preload=False).model_copy(update={"drain_s": 0.1})))
QUICK = UnitLimits(start_s=0.3, stop_s=0.3, drain_margin_s=0.1, look_s=0.05, look_while_coming_s=0.02)


class FakeChecks:
    """Implements `daemon.ports.HealthChecks`: a target is as `verdicts` says, failing where it is not named."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.asked: list[str] = []
        self.given_up: list[str] = []
        self.switched_off: set[str] = set()
        self.told: Callable[[Target], None] | None = None

    async def check(self, target: Target, path: bytes, *, timeout_s: float) -> Verdict:
        assert path == b"/health"
        assert timeout_s > 0
        self.asked.append(target.name)
        await asyncio.sleep(0)
        return self.verdicts.get(target.name, Verdict.FAILING)

    async def is_switched_on(self, url: str, *, timeout_s: float) -> bool:
        return url not in self.switched_off

    def give_up(self, target: str) -> None:
        self.given_up.append(target)

    def watch_silence(self, told: Callable[[Target], None]) -> None:
        self.told = told


@dataclass
class Scene:
    """A desk with real hands, and a service manager and targets in memory."""

    desk: Desk
    hands: DeskHands
    units: FakeUnitControl
    checks: FakeChecks
    following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Find out how all is, and follow it from then on."""
        await self.hands.open()
        self.following = asyncio.create_task(self.hands.follow())

    def status(self) -> str:
        return str(self.desk.health()["runtimes"][0]["status"])

    def ask(self, id: str = "a") -> Hearer:
        hearer = Hearer()
        self.desk.ask(Asked(id, Query(), "", self.desk.now() + 60), hearer)
        return hearer


def run(test: Callable[[Scene], Awaitable[None]], *, is_managed: bool = True, table: RoutingTable = TABLE) -> None:
    async def within() -> None:
        clock, units, checks = SystemClock(), FakeUnitControl([UNIT]), FakeChecks()
        desk = Desk(Core(table, profile="cpu_only", now=clock.now()), clock)
        manager = units if is_managed else None
        hands = DeskHands(desk, checks, LeaseLog(None, clock), units=manager, unit_limits=QUICK)
        scene = Scene(desk, hands, units, checks)
        try:
            async with asyncio.timeout(10):
                await test(scene)
        finally:
            if scene.following is not None:
                scene.following.cancel()
            desk.close()
            await hands.close()

    asyncio.run(within())


def test_a_unit_is_started_for_whoever_asks_and_polled_until_it_is_ready() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        first, second = scene.ask("a"), scene.ask("b")
        await until(lambda: scene.status() in ("starting", "loading"))
        scene.checks.verdicts[INSTANCE] = Verdict.LOADING
        await until(lambda: scene.status() == "loading")
        assert first.words == second.words == []
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await first.heard.wait()
        assert isinstance(first.words[0], Send)
        assert scene.units.orders == [("start", UNIT)]

    run(test)


def test_a_unit_that_does_not_start_is_refused_with_its_last_lines() -> None:
    async def test(scene: Scene) -> None:
        scene.units.failing.add(UNIT)
        scene.units.logs[UNIT] = ("error: no such file",)
        await scene.open()
        hearer = scene.ask()
        await hearer.heard.wait()
        (word,) = hearer.words
        assert isinstance(word, Refuse)
        assert word.problem.code == "KI872"
        assert "no such file" in word.problem.detail

    run(test)


def test_a_unit_that_takes_too_long_to_start_is_given_up() -> None:
    async def test(scene: Scene) -> None:
        scene.units.slow[UNIT] = asyncio.Event()
        await scene.open()
        hearer = scene.ask()
        await hearer.heard.wait()
        (word,) = hearer.words
        assert isinstance(word, Refuse)
        assert "did not start within 0.3 s" in word.problem.detail

    run(test)


def test_a_unit_that_ends_while_it_loads_fails_whoever_waits() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        hearer = scene.ask()
        await until(lambda: UNIT in scene.units.pids)
        await until(lambda: scene.status() == "loading")
        scene.units.crash(UNIT, "failed to load model")
        await hearer.heard.wait()
        (word,) = hearer.words
        assert isinstance(word, Refuse)
        assert "failed to load model" in word.problem.detail

    run(test)


def test_a_running_unit_is_taken_over_and_not_started_again() -> None:
    async def test(scene: Scene) -> None:
        await scene.units.start(UNIT)
        scene.units.orders.clear()
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await scene.open()
        assert scene.status() == "healthy"
        assert len(scene.ask().words) == 1
        assert scene.units.orders == []

    run(test)


def test_a_unit_that_serves_and_ends_by_itself_is_started_again() -> None:
    async def test(scene: Scene) -> None:
        await scene.units.start(UNIT)
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await scene.open()
        await until(lambda: scene.status() == "healthy")
        scene.checks.verdicts[INSTANCE] = Verdict.FAILING
        scene.units.crash(UNIT)
        await until(lambda: scene.units.orders.count(("start", UNIT)) == 2)

    run(test)


async def serving(scene: Scene) -> None:
    """Have the unit run and be healthy."""
    await scene.units.start(UNIT)
    scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
    await scene.open()
    await until(lambda: scene.status() == "healthy")
    scene.units.orders.clear()


@pytest.mark.parametrize("end", [FakeUnitControl.gone, FakeUnitControl.kill_for_good], ids=["stopped", "too slow"])
def test_what_somebody_else_stops_is_no_crash_and_stays_so(end: Callable[[FakeUnitControl, str], None]) -> None:
    async def test(scene: Scene) -> None:
        await serving(scene)
        scene.units.leave(UNIT)
        await until(lambda: scene.status() == "stopping")
        scene.checks.verdicts[INSTANCE] = Verdict.FAILING
        end(scene.units, UNIT)
        await until(lambda: scene.status() == "stopped")
        await asyncio.sleep(0.3)  # several looks
        assert scene.units.orders == []

    run(test)


@pytest.mark.parametrize("what", ["leave", "gone", "replace"])
def test_a_unit_is_looked_at_before_it_is_restarted(what: str) -> None:
    async def test(scene: Scene) -> None:
        await serving(scene)
        assert scene.following is not None
        scene.following.cancel()  # the next look is the one before the restart
        getattr(scene.units, what)(UNIT)
        scene.checks.verdicts[INSTANCE] = Verdict.FAILING
        for _ in range(3):
            scene.desk.tell(Doubted(INSTANCE))
            await until(lambda: not scene.desk.tell(Ticked()))
            await asyncio.sleep(0.01)  # the check answers
        expected = {"leave": "stopping", "gone": "stopped", "replace": "loading"}[what]
        await until(lambda: scene.status() == expected)
        assert scene.units.orders == []

    run(test)


def test_a_stop_that_fails_is_looked_at_again(caplog: pytest.LogCaptureFixture) -> None:
    async def test(scene: Scene) -> None:
        await serving(scene)
        scene.units.clinging.add(UNIT)
        scene.desk.tell(StopAsked(INSTANCE))
        await until(lambda: scene.units.orders == [("stop", UNIT)])
        await until(lambda: scene.status() in ("healthy", "draining"))
        assert "is not stopped" in caplog.text
        scene.units.gone(UNIT)
        scene.checks.verdicts[INSTANCE] = Verdict.FAILING
        await until(lambda: scene.status() == "stopped")

    run(test)


def test_the_service_manager_is_kept_from_starting_what_the_router_gave_up() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        scene.ask()
        await until(lambda: scene.status() == "loading")
        scene.units.crash(UNIT, "failed to load model")
        await until(lambda: scene.status() == "failed")
        await until(lambda: ("stop", UNIT) in scene.units.orders)
        await asyncio.sleep(0.2)  # several looks
        assert scene.status() == "failed"

    run(test)


def test_an_operator_starts_and_stops() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        scene.desk.tell(StartAsked(INSTANCE))
        await until(lambda: UNIT in scene.units.pids)
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await until(lambda: scene.status() == "healthy")
        scene.desk.tell(StopAsked(INSTANCE))
        await until(lambda: UNIT not in scene.units.pids)
        await until(lambda: scene.status() == "stopped")

    run(test)


def test_a_silent_target_is_polled_and_given_up_after_three_failures() -> None:
    async def test(scene: Scene) -> None:
        await scene.units.start(UNIT)
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await scene.open()
        hearer = scene.ask()
        (word,) = hearer.words
        assert isinstance(word, Send)
        assert scene.checks.told is not None
        before = len(scene.checks.asked)
        scene.checks.told(word.target)
        scene.checks.told(word.target)
        await until(lambda: len(scene.checks.asked) > before)
        assert scene.checks.given_up == []
        scene.checks.verdicts[INSTANCE] = Verdict.FAILING
        await asyncio.sleep(0.4)  # the pause between two doubts
        scene.checks.told(word.target)
        await until(lambda: scene.checks.given_up == [INSTANCE])
        await until(lambda: ("restart", UNIT) in scene.units.orders)

    run(test)


def test_without_a_service_manager_what_somebody_else_started_is_found() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        scene.checks.verdicts[INSTANCE] = Verdict.HEALTHY
        await scene.ask().heard.wait()
        assert scene.status() == "healthy"
        scene.desk.ended(Ended("a", Outcome.SERVED))
        scene.desk.tell(StopAsked(INSTANCE))
        await until(lambda: scene.status() == "stopped")

    run(test, is_managed=False)


def test_without_a_service_manager_nobody_waits_for_what_nobody_starts() -> None:
    async def test(scene: Scene) -> None:
        await scene.open()
        hearer = scene.ask()
        await hearer.heard.wait()
        assert isinstance(hearer.words[0], Refuse)

    run(test, is_managed=False)


def test_announcements_are_passed_on() -> None:
    async def test(scene: Scene) -> None:
        said: list[Announce] = []
        announce = Announce(News.REMOTE_DISABLED, "rig")
        scene.hands.announce(announce)
        scene.hands.announcer = said.append
        scene.hands.announce(announce)
        assert said == [announce]

    run(test)


# The journal of allocations.


def allocated(number: int, change: AllocationChange = AllocationChange.CREATED) -> Allocated:
    return Allocated(change, f"alloc_{number}", f"req_{number}", "small", "cpu_only", INSTANCE, 1000.0, 600.0)


def test_what_is_lent_survives_and_what_is_over_does_not(tmp_path: Path) -> None:
    file = tmp_path / "leases"

    async def first() -> None:
        log, heard = LeaseLog(LineJournal(file), SystemClock()), list[Allocated]()
        assert log.adopt() == ()
        log.begin()
        log.listener = heard.append
        for number in range(3):
            log.add(allocated(number))
        log.add(allocated(0, AllocationChange.RELEASED))
        await until(lambda: file.read_text().count("\n") == 2)
        assert "alloc_0" not in file.read_text(), "it began and ended in one breath"
        log.add(allocated(1, AllocationChange.RELEASED))
        await log.close()
        assert len(heard) == 5

    asyncio.run(first())
    assert file.read_text().count("\n") == 3
    log = LeaseLog(LineJournal(file), SystemClock())
    (lease,) = log.adopt()
    assert (lease.allocation_id, lease.target) == ("alloc_2", INSTANCE)
    assert lease.created_at == pytest.approx(1000.0, abs=0.1)
    assert file.read_text().count("\n") == 3, "it may still be another router's"
    log.begin()
    assert file.read_text().count("\n") == 1, "the journal begins anew"
    assert "alloc_2" in file.read_text()


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "leases"
    file.write_text('{"change":"created","allocation_id"')
    log = LeaseLog(LineJournal(file), SystemClock())
    assert log.adopt() == ()
    log.begin()
    assert file.read_text() == ""


def test_nothing_is_written_before_the_journal_is_ours(tmp_path: Path) -> None:
    file = tmp_path / "leases"

    async def test() -> None:
        log = LeaseLog(LineJournal(file), SystemClock())
        log.add(allocated(1))
        await asyncio.sleep(2 * BREATH_S)  # for as long as it would take to be written
        assert not file.exists()
        log.begin()
        await until(lambda: "alloc_1" in file.read_text())
        await log.close()
        other = LeaseLog(LineJournal(tmp_path / "other"), SystemClock())
        other.add(allocated(1))
        await other.close()
        assert not (tmp_path / "other").exists()

    asyncio.run(test())


def test_a_journal_that_cannot_be_kept_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        log = LeaseLog(LineJournal(tmp_path / "no folder" / "leases"), SystemClock())
        assert log.adopt() == ()
        log.begin()
        log.add(allocated(1))
        await log.close()

    asyncio.run(test())
    assert caplog.text.count("cannot be kept") == 1


def test_a_long_journal_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "leases"

    async def test() -> None:
        log = LeaseLog(LineJournal(file), SystemClock())
        log.begin()
        log.add(allocated(0))
        await log.close()
        for number in range(1, MOST_LINES):
            log.add(allocated(number))
        await log.close()
        assert file.read_text().count("\n") == MOST_LINES
        for number in range(MOST_LINES):
            log.add(allocated(number, AllocationChange.RELEASED))
        await log.close()

    asyncio.run(test())
    assert file.read_text() == ""
