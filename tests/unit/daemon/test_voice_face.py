"""KLoROS's own requests for words, answered as its voice zooid answers them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kloros_infra.daemon.bus_service import BusService, topics
from kloros_infra.daemon.desk import Desk
from kloros_infra.ir.routing import RoutedBus, RoutedPurpose, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.bus import FakeBus, StillClock
from tests.fakes.hands import a_desk
from tests.fakes.upstreams import FakeUpstreams

REQUEST = "VOICE.ORCHESTRATOR.LLM.REQUEST"
TABLE = a_routing_table(
    a_routed_model("small", an_upstream(parallel=4), aliases=("qwen2.5:7b",)),
    a_routed_model("talker", an_upstream("talker-cpu_only", port=8602)),
    purposes=(
        RoutedPurpose(name="fast", candidates=("small",), otherwise=None, is_default=True),
        RoutedPurpose(name="voice", candidates=("talker",), otherwise=None, is_default=False),
    ),
)


@dataclass
class Scene:
    """A bus service with everything around it in memory."""

    bus: FakeBus
    clock: StillClock
    desk: Desk
    upstreams: FakeUpstreams
    service: BusService

    def send(self, incident_id: str | None = "inc-1", *, ts: float = 1.0, **facts: Any) -> None:
        message = {"signal": REQUEST, "ecosystem": "voice", "facts": facts, "incident_id": incident_id, "ts": ts}
        self.bus.arrive(REQUEST, json.dumps(message).encode())

    def said(self, number: int = 0) -> tuple[str, dict[str, Any], str | None]:
        topic, message = self.bus.published[number]
        return topic, message["facts"], message["incident_id"]


def run(scenario: Callable[[Scene], Any], table: RoutingTable = TABLE) -> None:
    async def main() -> None:
        bus, clock, upstreams = FakeBus(), StillClock(), FakeUpstreams()
        desk, _ = a_desk(table, clock)
        service = BusService(bus, desk, upstreams, clock)
        service.open()
        try:
            await scenario(Scene(bus, clock, desk, upstreams, service))
        finally:
            await service.cut()
            desk.close()

    asyncio.run(main())


def test_words_are_answered_as_the_zooid_answers_them() -> None:
    async def scenario(scene: Scene) -> None:
        prompt = "p" * 300
        scene.send(prompt=prompt, mode="streaming", temperature=0.7, max_tokens=512, model="main")
        topic, facts, incident_id = scene.said()
        assert (topic, incident_id) == ("VOICE.LLM.RESPONSE", "inc-1")
        assert facts == {
            "prompt": prompt[:200],
            "response": "Hello there.",
            "model": "talker",
            "backend": "llama",
            "latency": pytest.approx(0.5, abs=0.2),  # and what this process itself took
            "temperature": 0.7,
            "timestamp": 1_700_001_000.0,
        }
        ((_, body),) = scene.upstreams.asked
        assert body == {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 512,
            "temperature": 0.7,
        }

    run(scenario)


def test_a_model_that_is_known_is_asked_and_the_standard_temperature_is_kloross() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(prompt="Hi.", model="qwen2.5:7b")
        assert scene.said()[1]["model"] == "small"
        assert scene.said()[1]["temperature"] == 0.8
        assert scene.upstreams.asked[0][1]["temperature"] == 0.8

    run(scenario)


def test_without_a_purpose_voice_the_default_answers() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(prompt="Hi.", model="main")
        assert scene.said()[1]["model"] == "small"

    run(scenario, a_routing_table(a_routed_model("small")))


@pytest.mark.parametrize("incident_id", ["inc-1", None])
def test_a_request_sent_twice_is_answered_once(incident_id: str | None) -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(incident_id, prompt="Hi.")
        scene.send(incident_id, prompt="Hi.")
        assert len(scene.bus.published) == len(scene.upstreams.asked) == 1
        scene.send(incident_id, prompt="Something else?")
        assert len(scene.bus.published) == 2, "one incident may ask several things"

    run(scenario)


def test_without_an_incident_the_same_words_later_are_another_request() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(None, prompt="Hi.", ts=1.0)
        scene.send(None, prompt="Hi.", ts=2.0)
        assert len(scene.bus.published) == 2
        assert scene.said()[2] is None

    run(scenario)


@pytest.mark.parametrize("message", [{"prompt": "Say yes."}, {"facts": {"prompt": "Say yes."}, "incident_id": ""}])
def test_the_same_bytes_without_an_incident_are_one_request_for_two_seconds_alone(message: dict[str, Any]) -> None:
    async def scenario(scene: Scene) -> None:
        for seconds in (0, 0.25, 1.5, 0.25):
            scene.clock.seconds += seconds
            scene.bus.arrive(REQUEST, json.dumps(message).encode())
        assert len(scene.upstreams.asked) == len(scene.bus.published) == 2

    run(scenario)


def test_an_incident_that_asks_again_gets_the_same_answer_again() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(prompt="Hi.", ts=1.0)
        scene.send(prompt="Hi.", ts=2.0)
        assert scene.bus.published[0] == scene.bus.published[1]
        scene.clock.seconds += 59.0
        scene.send(prompt="Hi.", ts=2.0)
        assert len(scene.bus.published) == 3
        assert len(scene.upstreams.asked) == 1
        scene.clock.seconds += 1.0
        scene.send(prompt="Hi.", ts=2.0)
        assert len(scene.upstreams.asked) == 2

    run(scenario)


def test_an_incident_may_ask_again_after_an_error() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.dead = {"talker-cpu_only"}
        scene.send(prompt="Hi.", ts=1.0)
        await scene.bus.sent(1)
        scene.send(prompt="Hi.", ts=1.0)
        assert len(scene.bus.published) == 1, "a double is not told twice"
        scene.send(prompt=" ", ts=1.0)
        scene.send(prompt=" ", ts=2.0)
        assert [topic for topic, _ in scene.bus.published] == ["VOICE.LLM.ERROR"] * 3
        scene.upstreams.dead = set()
        scene.send(prompt="Hi.", ts=2.0)
        assert (await scene.bus.sent(4))[3][0] == "VOICE.LLM.RESPONSE"

    run(scenario)


@pytest.mark.parametrize(
    ("facts", "error_type"),
    [
        ({}, "missing_prompt"),
        ({"prompt": "  "}, "missing_prompt"),
        ({"prompt": 5}, "missing_prompt"),
        ({"prompt": "Hi.", "temperature": "hot"}, "request_handling_failed"),
        ({"prompt": "Hi.", "max_tokens": -1}, "request_handling_failed"),
    ],
)
def test_what_cannot_be_read_is_an_error(facts: dict[str, Any], error_type: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(**facts)
        topic, said, incident_id = scene.said()
        assert (topic, said["error_type"], incident_id) == ("VOICE.LLM.ERROR", error_type, "inc-1")
        assert set(said) == {"error_type", "details", "attempt_count", "remote_enabled", "timestamp"}
        assert scene.upstreams.asked == []

    run(scenario)


def test_a_failure_says_why_and_how_often_it_was_tried() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.dead = {"talker-cpu_only"}
        scene.send(prompt="Hi.")
        await scene.bus.sent(1)
        topic, facts, _ = scene.said()
        assert (topic, facts["error_type"], facts["remote_enabled"]) == ("VOICE.LLM.ERROR", "generation_failed", False)
        assert facts["details"].startswith("KI820")
        assert facts["attempt_count"] >= 1

    run(scenario)


def test_thinking_is_not_spoken() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.answer = replace(scene.upstreams.answer, text="<think>hm</think>Four.")
        scene.send(prompt="2+2?")
        assert scene.said()[1]["response"] == "Four."

    run(scenario)


def test_voice_goes_before_others_in_line() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        ask = {"prompt": "Hi.", "model": "talker"}
        for number in range(3):
            scene.bus.arrive("llm.request", json.dumps({"request_id": f"req_{number}", **ask}).encode())
        scene.send(prompt="Hi.")
        scene.upstreams.gate.set()
        await scene.bus.sent(4)
        assert ["temperature" in body for _, body in scene.upstreams.asked] == [False, True, False, False]

    run(scenario)


def test_noise_is_dropped() -> None:
    async def scenario(scene: Scene) -> None:
        scene.bus.arrive(REQUEST, b"no json")
        scene.bus.arrive(REQUEST, b"[]")
        scene.bus.arrive(f"{REQUEST}.MORE", b'{"facts":{"prompt":"Hi."}}')
        assert scene.bus.published == []

    run(scenario)


def test_coming_and_going_are_told() -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.service.voice is not None
        scene.service.voice.say_ready()
        topic, ready, _ = scene.said()
        assert topic == "VOICE.LLM.READY"
        assert ready == {
            "service": "kloros-infra-router",
            "zooid": "kloros-infra-router",
            "available_backends": ["llama"],
            "default_model": "talker",
            "remote_enabled": False,
            "local_model": "talker",
        }
        scene.upstreams.gate.clear()
        scene.send(prompt="Hi.")
        draining = asyncio.create_task(scene.service.drain(10))
        await asyncio.sleep(0)
        scene.send("inc-2", prompt="Late?")
        assert scene.said(1)[1]["error_type"] == "request_handling_failed"
        scene.upstreams.gate.set()
        await draining
        assert scene.said(2)[0] == "VOICE.LLM.RESPONSE"
        await scene.service.cut()
        topic, gone, _ = scene.said(3)
        assert topic == "VOICE.LLM.SHUTDOWN"
        assert gone["stats"] == {"total_requests": 2, "successful": 1, "failed": 1}

    run(scenario)


def test_what_is_cut_is_told_so() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send(prompt="Hi.")
        await scene.service.cut()
        topic, facts, _ = scene.said()
        assert (topic, facts["error_type"]) == ("VOICE.LLM.ERROR", "generation_failed")
        assert facts["details"].startswith("KI812")

    run(scenario)


def test_voice_can_be_left_to_others() -> None:
    bus = RoutedBus(xsub="tcp://127.0.0.1:1", xpub="tcp://127.0.0.1:2", has_voice=False)
    assert REQUEST not in topics(bus)
    assert REQUEST in topics(bus.model_copy(update={"has_voice": True}))

    async def scenario(scene: Scene) -> None:
        scene.send(prompt="Hi.")
        assert scene.service.voice is None
        assert scene.bus.published == []

    run(scenario, a_routing_table(bus=bus))
