"""A game takes the card: the router sees it through NVML, starts nothing there, and nothing has failed for good.

NVML is a library that stands in for NVIDIA's, which is chosen when a process starts: the story is told in another one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.nvml_memory import NvmlCards
from kloros_infra.daemon.card_watch import CardWatch, LookTimes
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.hands import DeskHands
from kloros_infra.daemon.lease_log import LeaseLog
from kloros_infra.ir.routing import RoutedCapacity, RoutedCard, RoutedHost, RoutedProfile, RoutedShare, RoutingTable
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Refuse, Send
from kloros_infra.router.events import Asked, Ended, Outcome, Verdict
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.nvml import RTX_3060, FakeNvml
from tests.fakes.unit_control import FakeUnitControl
from tests.unit.daemon.test_desk import Hearer, until
from tests.unit.daemon.test_hands import FakeChecks
from tests.unit.router.told import a_host

CHECKOUT = Path(__file__).parents[2]
INSTANCE, UNIT = "small-cpu_only", "llama@small-cpu_only.service"
UUID = "GPU-6a2b3c4d-0000-1111-2222-333344445555"
CARD_MIB, MIB = 12_288, 2**20


def test_what_a_game_holds_is_waited_for_and_nothing_fails_for_good(tmp_path: Path) -> None:
    told = {**os.environ, **FakeNvml(tmp_path).environment(RTX_3060), "PYTHONPATH": str(CHECKOUT)}
    words = f"from {__name__} import story; import asyncio; asyncio.run(story())"
    done = subprocess.run([sys.executable, "-c", words], cwd=CHECKOUT, env=told, check=False, capture_output=True)
    assert (done.returncode, done.stdout.decode()) == (0, "told\n"), done.stderr.decode()


def a_table(*hosts: RoutedHost) -> RoutingTable:
    share = RoutedShare(card="one", mib=8000)
    upstream = an_upstream().model_copy(update={"shares": (share,), "preload": False})
    card = RoutedCard(name="one", uuid=UUID, pci=None)
    return a_routing_table(a_routed_model("small", upstream)).model_copy(
        update={
            "hosts": hosts,
            "profiles": (RoutedProfile(name="cpu_only", cards=(card,)),),
            "capacities": (RoutedCapacity(card="one", mib=CARD_MIB - 500),),
        }
    )


class Stage:
    """A router's desk with real hands, its units in memory, and a card that a game may take."""

    def __init__(self, *hosts: RoutedHost) -> None:
        clock, self.units, self.checks = SystemClock(), FakeUnitControl([UNIT]), FakeChecks()
        self.desk = Desk(Core(a_table(*hosts), profile="cpu_only", now=clock.now()), clock)
        self.hands = DeskHands(self.desk, self.checks, LeaseLog(None, clock), units=self.units)
        self.watch = CardWatch(self.desk, self.units, NvmlCards(Path("nowhere")), times=LookTimes(again_s=0.01))
        self.hands.watch_cards(self.watch)
        self._asked = 0

    async def game_takes(self, mib: int) -> None:
        """Have somebody else use the card, and the router look."""
        self.game_takes_unseen(mib)
        await self.watch.look()

    def game_takes_unseen(self, mib: int) -> None:
        os.environ["FAKE_NVML"] = f"{RTX_3060}|{mib * MIB}"

    def ask(self) -> Hearer:
        self._asked += 1
        hearer = Hearer()
        self.desk.ask(Asked(str(self._asked), Query(model="small"), "", self.desk.now() + 30), hearer)
        return hearer

    def serves(self, hearer: Hearer) -> None:
        """Check that a request is answered here, and end it."""
        (word,) = hearer.words
        assert isinstance(word, Send), word
        self.desk.ended(Ended(word.id, Outcome.SERVED))

    def state(self) -> str:
        (one,) = self.desk.overview().instances
        return one.state.value

    async def close(self) -> None:
        self.desk.close()
        await self.hands.close()


def refuses_for_now(hearer: Hearer) -> None:
    """Check that a request was refused, and may be asked again."""
    (word,) = hearer.words
    assert isinstance(word, Refuse), word
    assert (word.problem.code, word.is_temporary) == ("KI809", True), word
    assert "beside what others use" in word.problem.detail


async def story() -> None:
    """Tell it; whatever is not as it shall be raises AssertionError."""
    async with asyncio.timeout(20):
        await _the_start_waits_for_room()
        await _the_request_goes_elsewhere()
    print("told")  # noqa: T201 - so that whoever started this knows that it came to its end


async def _the_start_waits_for_room() -> None:
    stage = Stage()
    await stage.game_takes(9000)
    await stage.hands.open()
    await until(lambda: stage.state() == "stopped")
    refuses_for_now(stage.ask())
    assert stage.units.orders == []
    # The game ends, and comes back while the model loads.
    await stage.game_takes(0)
    stage.units.failing.add(UNIT)
    stage.game_takes_unseen(9000)
    last = stage.ask()
    await last.heard.wait()
    await stage.watch.look()
    assert stage.units.orders == [("start", UNIT), ("stop", UNIT)]
    assert stage.state() == "stopped", "it has not failed for good"
    refuses_for_now(stage.ask())
    stage.units.failing.clear()
    await stage.game_takes(100)
    stage.checks.verdicts[INSTANCE] = Verdict.HEALTHY
    served = stage.ask()
    await served.heard.wait()
    stage.serves(served)
    await stage.close()


async def _the_request_goes_elsewhere() -> None:
    stage = Stage(a_host("rig", "small", priority=90))
    stage.checks.verdicts["rig/small"] = Verdict.HEALTHY
    await stage.game_takes(9000)
    await stage.hands.open()
    await until(lambda: stage.state() == "stopped")
    hearer = stage.ask()
    await hearer.heard.wait()
    (word,) = hearer.words
    assert isinstance(word, Send), word
    assert (word.target.name, stage.units.orders) == ("rig/small", [])
    await stage.close()
