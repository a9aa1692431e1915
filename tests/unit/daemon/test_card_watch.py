"""Watching what others use of the cards: what is told, when, and that a start has it looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from threading import Event

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.service_problems import job_not_finished
from kloros_infra.daemon.card_watch import CardWatch, LookTimes
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.errors import UnitError
from kloros_infra.ir.routing import RoutedCapacity, RoutedCard, RoutedProfile, RoutedShare, RoutingTable
from kloros_infra.ir.seen_card import SeenCard
from kloros_infra.ir.seen_unit import SeenUnit
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Effect
from kloros_infra.router.events import CardsSeen, Ticked
from kloros_infra.router.events import Event as RouterEvent
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.cards import FakeCards
from tests.fakes.unit_control import FakeUnitControl
from tests.unit.daemon.test_desk import until
from tests.unit.daemon.test_hands import FakeChecks

INSTANCE = "small-cpu_only"
UNIT = f"llama@{INSTANCE}.service"
MIB = 2**20
SOON = LookTimes(look_s=0.01, again_s=0.01, answer_s=0.2, longest_s=0.05)


def the_table() -> RoutingTable:
    upstream = an_upstream().model_copy(update={"shares": (RoutedShare(card="one", mib=4000),), "preload": False})
    table = a_routing_table(a_routed_model("small", upstream))
    card = RoutedCard(name="one", uuid="GPU-1", pci=None)
    profiles = (RoutedProfile(name="cpu_only", cards=(card,)),)
    return table.model_copy(update={"profiles": profiles, "capacities": (RoutedCapacity(card="one", mib=10_000),)})


def used(mib: int, held: dict[int, int] | None = None) -> tuple[SeenCard, ...]:
    by_pid = {pid: mib * MIB for pid, mib in (held or {}).items()}
    return (SeenCard("GPU-1", None, 10_000 * MIB, mib * MIB, by_pid),)


class ListeningDesk(Desk):
    """A desk that keeps what it was told of the cards."""

    def __init__(self, table: RoutingTable) -> None:
        clock = SystemClock()
        super().__init__(Core(table, profile="cpu_only", now=clock.now()), clock)
        self.told: list[int] = []

    def tell(self, event: RouterEvent) -> list[Effect]:
        if isinstance(event, CardsSeen):
            self.told.append(dict(event.foreign_mib)["one"])
        return super().tell(event)


Test = Callable[[ListeningDesk, CardWatch, FakeUnitControl], Awaitable[None]]


def run(test: Test, cards: FakeCards, *, table: RoutingTable | None = None) -> None:
    async def within() -> None:
        desk, units = ListeningDesk(table or the_table()), FakeUnitControl([UNIT])
        try:
            async with asyncio.timeout(10):
                await test(desk, CardWatch(desk, units, cards, times=SOON), units)
        finally:
            desk.close()

    asyncio.run(within())


def test_what_changes_much_is_told_and_what_does_not_is_not() -> None:
    async def test(desk: ListeningDesk, watch: CardWatch, _: FakeUnitControl) -> None:
        for _look in range(5):
            await watch.look()
        assert desk.told == [3000, 3064, 0]

    # A rise is looked at twice.
    looks = (63, 3000, 3000, 3063, 3064, 3064, 0)
    run(test, FakeCards(*map(used, looks)))


def test_a_rise_that_was_seen_once_is_of_what_is_ending() -> None:
    async def test(desk: ListeningDesk, watch: CardWatch, _: FakeUnitControl) -> None:
        await watch.look()
        await watch.look()
        assert desk.told == []

    run(test, FakeCards(used(4000), used(0), used(4000), ()))


def test_what_our_processes_hold_is_ours() -> None:
    async def test(desk: ListeningDesk, watch: CardWatch, units: FakeUnitControl) -> None:
        await units.start(UNIT)
        (pid,) = units.pids.values()
        assert pid == 1001
        await watch.look()
        assert desk.told == [1000]
        await watch.look()
        assert desk.told == [1000], "it is not known which part is its"

    run(test, FakeCards(used(5000, {1001: 4000}), used(5000, {1001: 4000}), used(9000)))


def test_a_driver_that_is_loaded_later_is_found() -> None:
    cards = FakeCards(None, None, None, used(3000))

    async def test(desk: ListeningDesk, watch: CardWatch, _: FakeUnitControl) -> None:
        following = asyncio.create_task(watch.follow())
        await until(lambda: desk.told == [3000])
        following.cancel()
        assert cards.asked == 5

    run(test, cards)


def test_a_driver_that_hangs_leaves_what_is_known_and_is_waited_for_once(caplog: pytest.LogCaptureFixture) -> None:
    cards = HangingCards(used(3000))

    async def test(desk: ListeningDesk, watch: CardWatch, _: FakeUnitControl) -> None:
        await watch.look()
        cards.goes_on.clear()
        for _look in range(3):
            await watch.look()
        assert (desk.told, cards.asked) == ([3000], 3)
        assert caplog.text.count("the driver of the cards hangs") == 1
        cards.readings = [used(0)]
        cards.goes_on.set()
        following = asyncio.create_task(watch.follow())
        await until(lambda: desk.told == [3000, 0])
        following.cancel()

    run(test, cards)


class HangingCards(FakeCards):
    """A driver that answers only while it goes on."""

    def __init__(self, *readings: tuple[SeenCard, ...] | None) -> None:
        super().__init__(*readings)
        self.goes_on = Event()
        self.goes_on.set()

    def read(self) -> tuple[SeenCard, ...] | None:
        found = super().read()
        self.goes_on.wait()
        return found


def test_without_shares_of_cards_nobody_looks() -> None:
    cards = FakeCards(used(5000))

    async def test(desk: ListeningDesk, watch: CardWatch, _: FakeUnitControl) -> None:
        await watch.look()
        assert (desk.told, cards.asked) == ([], 0)

    run(test, cards, table=the_table().model_copy(update={"capacities": ()}))


def test_where_the_service_manager_is_mute_nothing_is_told() -> None:
    async def test(desk: ListeningDesk, _: CardWatch, __: FakeUnitControl) -> None:
        watch = CardWatch(desk, MuteUnits(), FakeCards(used(5000)))
        await watch.look()
        assert desk.told == []

    run(test, FakeCards(None))


class MuteUnits(FakeUnitControl):
    """A service manager that cannot be asked."""

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        raise UnitError(job_not_finished("all", "nobody answers"))


def test_who_asks_before_the_first_look_starts_nothing_unseen() -> None:
    async def within() -> None:
        clock, units, cards, checks = SystemClock(), FakeUnitControl([UNIT]), FakeCards(used(3000)), FakeChecks()
        desk = ListeningDesk(the_table())
        hands = DeskHands(desk, checks, LeaseLog(None, clock), units=units)
        hands.watch_cards(CardWatch(desk, units, cards, times=SOON))
        desk.tell(Ticked())
        await asyncio.sleep(0.01)  # for as long as a poll would take
        assert checks.asked == []
        async with asyncio.timeout(10):
            await hands.open()
        assert desk.told == [3000]
        assert checks.asked
        desk.close()
        await hands.close()

    asyncio.run(within())


def test_the_router_looks_at_its_start_and_whenever_it_starts_an_instance() -> None:
    async def within() -> None:
        clock, units, cards = SystemClock(), FakeUnitControl([UNIT]), FakeCards(used(3000))
        desk = ListeningDesk(the_table())
        hands = DeskHands(desk, FakeChecks(), LeaseLog(None, clock), units=units)
        hands.watch_cards(CardWatch(desk, units, cards, times=SOON))
        async with asyncio.timeout(10):
            await hands.open()
            assert desk.told == [3000]
            following, asked = asyncio.create_task(hands.follow()), cards.asked
            hands.start(INSTANCE)
            await until(lambda: cards.asked > asked)
        following.cancel()
        desk.close()
        await hands.close()

    asyncio.run(within())
