"""What the router says of itself: in the design's words, at once when the bus is there, and again when it is back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kloros_infra.daemon.bus_reports import endpoint_of
from kloros_infra.daemon.bus_service import BusService
from kloros_infra.daemon.card_reports import profile_facts, warnings
from kloros_infra.daemon.desk import Desk
from kloros_infra.ir.announcements import STANDARD_TEXTS, News, NewsKind
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from kloros_infra.ir.requests import UpstreamKind
from kloros_infra.ir.routing import RoutedAnnouncements, RoutedCard, RoutedHost, RoutedProfile, RoutingTable
from kloros_infra.router.effects import Allocated, AllocationChange, Announce
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import FakeBus, StillClock
from tests.fakes.hands import FakeHands, a_desk
from tests.fakes.upstreams import FakeUpstreams

CARDS = {name: RoutedCard(name=name, uuid=None, pci=None) for name in ("rtx5080", "rtx3060")}
HOST = RoutedHost(
    name="rig",
    kind=UpstreamKind.OPENAI,
    address="192.0.2.1",
    port=443,
    path="/api",
    is_tls=True,
    priority=10,
    toggle=None,
    credential=None,
    health_path="/health",
    health_interval_s=30,
    health_timeout_s=1,
    health_failures=3,
    models={"small": "small"},
)
SPOKEN = RoutedAnnouncements(kinds=tuple(NewsKind), least_interval_s=30.0, urgency=0.5, texts=dict(STANDARD_TEXTS))
TABLE = a_routing_table(a_routed_model("small", an_upstream("small-max"), an_upstream("small-mid"))).model_copy(
    update={
        "profiles": (
            RoutedProfile(name="max", cards=(CARDS["rtx5080"], CARDS["rtx3060"])),
            RoutedProfile(name="mid", cards=(CARDS["rtx3060"],)),
        ),
        "hosts": (HOST,),
    }
)


LOCKED = ReportedCard(
    card="rtx5080", state="locked", reason="locked out: gaming", total_mib=16303, used_mib=303, foreign_mib=303
)
REPORT = CardsReport(
    profile="mid",
    reason="'max' lacks rtx5080 (locked out: gaming)",
    since_epoch_s=1_700_000_000.0,
    cards=(LOCKED,),
    hardware_changes=("rtx3060 has 8 GiB, declared are 12 GiB",),
)


@dataclass
class Scene:
    """A bus service with everything around it in memory; the bus brings back what is published once it is there."""

    bus: EchoingBus
    desk: Desk
    hands: FakeHands
    clock: StillClock
    service: BusService

    def on(self, topic: str) -> list[dict[str, Any]]:
        return [message for name, message in self.bus.published if name == topic]


class EchoingBus(FakeBus):
    """A bus that may not be there."""

    is_there = True

    def publish(self, topic: str, payload: bytes) -> None:
        super().publish(topic, payload)
        if self.is_there and topic == "llm.pong":
            self.arrive(topic, payload)


def run(scenario: Callable[[Scene], Any], table: RoutingTable = TABLE) -> None:
    async def main() -> None:
        bus, clock = EchoingBus(), StillClock()
        desk, hands = a_desk(table, clock, profile="max")
        service = BusService(bus, desk, FakeUpstreams(), clock)
        service.open()
        try:
            await scenario(Scene(bus, desk, hands, clock, service))
        finally:
            await service.cut()
            desk.close()

    asyncio.run(main())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def test_the_profile_is_told_with_the_cards_that_it_uses() -> None:
    async def scenario(scene: Scene) -> None:
        scene.service.reports.report_profile()
        scene.clock.seconds += 100
        scene.service.reports.report_profile()
        scene.desk.take_state("mid", None)
        scene.service.reports.report_profile()
        first, again, changed = (message["facts"] for message in scene.on("llm.gpu_profile"))
        assert first == {**profile_facts(TABLE, "max", None), "timestamp": "2023-11-14T22:30:00Z"}
        assert again == first, "its time is that of the change"
        assert (changed["profile"], changed["timestamp"]) == ("mid", "2023-11-14T22:31:40Z")

    run(scenario)


def test_where_cards_are_looked_at_the_time_is_that_of_the_decision() -> None:
    async def scenario(scene: Scene) -> None:
        scene.desk.take_state("mid", REPORT)
        scene.service.reports.report_profile()
        scene.desk.take_state("max", REPORT)
        scene.service.reports.report_profile()
        decided, by_hand = (message["facts"] for message in scene.on("llm.gpu_profile"))
        assert decided == {**profile_facts(TABLE, "mid", REPORT), "timestamp": "2023-11-14T22:13:20Z"}
        assert by_hand["timestamp"] == "2023-11-14T22:30:00Z"

    run(scenario)


def test_a_card_that_closes_is_told_at_once_and_its_figures_soon() -> None:
    async def scenario(scene: Scene) -> None:
        following = asyncio.create_task(scene.service.reports.follow())
        try:
            await until(lambda: bool(scene.on("llm.gpu_profile")))
            before = len(scene.on("llm.gpu_profile"))
            scene.desk.take_state("mid", REPORT)
            await until(lambda: scene.on("llm.gpu_profile")[-1]["facts"]["profile"] == "mid")
            gpus = scene.on("llm.gpu_profile")[-1]["facts"]["gpus"]
            assert gpus[0]["state"] == "locked"
            assert scene.on("llm.health")[-1]["facts"]["warnings"] == warnings(REPORT)
            assert len(scene.on("llm.gpu_profile")) <= before + 2
            used = REPORT.cards[0].model_copy(update={"used_mib": 9000})
            scene.desk.take_state("mid", REPORT.model_copy(update={"cards": (used,)}))
            told = len(scene.on("llm.gpu_profile"))
            await until(lambda: len(scene.on("llm.gpu_profile")) > told)
            gpus = scene.on("llm.gpu_profile")[-1]["facts"]["gpus"]
            assert gpus[0]["vram_free_gb"] == round((16303 - 9000) / 1024, 1)
        finally:
            following.cancel()

    run(scenario)


def test_health_has_the_lines_the_breakers_and_what_waits() -> None:
    async def scenario(scene: Scene) -> None:
        scene.service.reports.report_health()
        ((message),) = scene.on("llm.health")
        facts = message["facts"]
        assert (facts["waiting"], facts["bus"]) == (0, {"answered": 0, "dropped": 0})
        runtime = facts["runtimes"][0]
        assert (runtime["queued_requests"], runtime["breaker"]) == (0, "closed")
        assert "reason" in runtime
        assert message["incident_id"]

    run(scenario)


def test_an_allocation_is_told_as_the_design_records_it() -> None:
    async def scenario(scene: Scene) -> None:
        lent = Allocated(AllocationChange.CREATED, "alloc_1", "req_1", "small", "max", "small-max", 1000.0, 600.0)
        scene.service.reports.report_allocation(lent)
        scene.service.reports.report_allocation(lent._replace(change=AllocationChange.RELEASED))
        created, released = scene.on("llm.allocation")
        assert created["facts"] == {
            "event": "created",
            "allocation_id": "alloc_1",
            "request_id": "req_1",
            "model_id": "small",
            "profile": "max",
            "target": "small-max",
            "endpoint": "http://127.0.0.1:8601/v1/chat/completions",
            "created_at": "2023-11-14T22:30:00Z",
            "ttl": 600.0,
        }
        assert released["facts"]["event"] == "released"
        assert created["incident_id"] != released["incident_id"], "KLoROS drops doubles by it"

    run(scenario)


def test_an_allocation_names_the_id_that_was_asked_with_even_if_another_asks_with_it_too() -> None:
    async def scenario(scene: Scene) -> None:
        lent = Allocated(AllocationChange.CREATED, "alloc_1", "req_1@0a1b", "small", "max", "small-max", 1000.0, 600.0)
        scene.service.reports.report_allocation(lent)
        assert scene.on("llm.allocation")[0]["facts"]["request_id"] == "req_1"

    run(scenario)


def test_an_endpoint_is_named_wherever_it_is() -> None:
    assert endpoint_of(TABLE, "rig/small") == "https://192.0.2.1:443/api/v1/chat/completions"
    assert endpoint_of(TABLE, "gone-max") is None


def test_changes_are_spoken_only_where_that_is_wanted() -> None:
    announce = Announce(News.REMOTE_CONNECTED, "AltimitOS")

    async def silent(scene: Scene) -> None:
        scene.service.reports.announce(announce)
        assert scene.bus.published == []

    async def spoken(scene: Scene) -> None:
        scene.service.reports.announce(announce)
        ((message),) = scene.on("VOICE.ORCHESTRATOR.SPEAK")
        assert message["ecosystem"] == "voice"
        assert message["facts"] == {
            "text": "Connected to AltimitOS",
            "affective_state": {},
            "urgency": 0.5,
            "timestamp": 1_700_001_000.0,
        }
        assert message["incident_id"]

    run(silent)
    run(spoken, TABLE.model_copy(update={"announcements": SPOKEN}))


def test_what_changes_within_the_pause_is_spoken_after_it() -> None:
    async def scenario(scene: Scene) -> None:
        for profile in ("mid", "max", "low"):
            scene.service.reports.announce(Announce(News.PROFILE_CHANGED, profile))
        assert [one["facts"]["text"] for one in scene.on("VOICE.ORCHESTRATOR.SPEAK")] == ["The profile is mid now."]
        scene.clock.seconds += 0.02
        await until(lambda: len(scene.on("VOICE.ORCHESTRATOR.SPEAK")) == 2)
        assert scene.on("VOICE.ORCHESTRATOR.SPEAK")[1]["facts"]["text"] == "The profile is low now."

    run(scenario, TABLE.model_copy(update={"announcements": SPOKEN.model_copy(update={"least_interval_s": 0.02})}))


def test_all_is_told_when_the_bus_comes() -> None:
    async def scenario(scene: Scene) -> None:
        scene.bus.is_there = False
        following = asyncio.create_task(scene.service.follow())
        await until(lambda: len(scene.on("llm.pong")) >= 3)
        assert scene.on("VOICE.LLM.READY") == []
        told = len(scene.on("llm.health"))
        scene.bus.is_there = True
        await until(lambda: bool(scene.on("VOICE.LLM.READY")))
        assert len(scene.on("llm.health")) > told
        assert scene.on("llm.gpu_profile")
        assert scene.on("HEARTBEAT")[0]["facts"]["zooid"] == "kloros-infra-router"
        following.cancel()

    run(scenario)


def test_a_change_is_told_at_once_and_a_figure_is_not() -> None:
    async def scenario(scene: Scene) -> None:
        following = asyncio.create_task(scene.service.follow())
        await until(lambda: bool(scene.on("VOICE.LLM.READY")))
        told = len(scene.on("llm.gpu_profile"))
        scene.bus.arrive("llm.request", json.dumps({"request_id": "a", "prompt": "Hi."}).encode())
        await asyncio.sleep(0.2)
        assert len(scene.on("llm.gpu_profile")) == told
        scene.desk.take_state("mid", None)
        await until(lambda: len(scene.on("llm.gpu_profile")) > told)
        assert scene.on("llm.health")[-1]["facts"]["gpu_profile"] == "mid"
        following.cancel()

    run(scenario)
