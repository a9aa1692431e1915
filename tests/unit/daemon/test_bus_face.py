"""The bus face: one reply per request, whatever comes, in time and in KLoROS's envelope."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.bus_face import BusFace, BusLimits
from kloros_infra.daemon.bus_service import BusService
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_problems import upstream_refused
from kloros_infra.daemon.ports import UpstreamError
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.events import Outcome, Verdict
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, a_target, an_upstream
from tests.fakes.bus import FakeBus, FakeDirect
from tests.fakes.hands import FakeHands, a_desk
from tests.fakes.upstreams import FakeUpstreams

PIRATE = a_routed_persona(
    id="pirate", model_id="small", system_prompt="Talk like a pirate.", sampling={"temperature": 0.9}, stop=("Arr",)
)
MECHANIC = a_routed_persona(
    "mechanic", response_format={"type": "json_object"}, tools=({"type": "function", "function": {"name": "fix"}},)
)
TABLE = a_routing_table(
    a_routed_model("small"),
    a_routed_model("spare", an_upstream("spare-cpu_only", port=8602)),
    personas=(PIRATE, MECHANIC),
    purposes=(RoutedPurpose(name="fast", candidates=("small", "spare"), otherwise=None, is_default=True),),
)


@dataclass
class Scene:
    """A bus face with everything around it in memory."""

    bus: FakeBus
    desk: Desk
    hands: FakeHands
    upstreams: FakeUpstreams
    service: BusService
    direct: FakeDirect

    @property
    def face(self) -> BusFace:
        return self.service.face

    def send(self, request_id: str = "req_01", *, ts: float = 1.0, **facts: Any) -> None:
        facts = {"request_id": request_id, "prompt": "Hi.", **facts}
        envelope = {
            "signal": "llm.request",
            "ecosystem": "llm",
            "facts": facts,
            "incident_id": "inc",
            "trace": "t",
            "ts": ts,
        }
        self.bus.arrive("llm.request", json.dumps(envelope).encode())

    async def reply(self, number: int = 1) -> dict[str, Any]:
        """Wait for a reply and give its facts."""
        _, message = (await self.bus.sent(number))[number - 1]
        facts = message["facts"]
        assert isinstance(facts, dict)
        return facts


@asynccontextmanager
async def a_scene(limits: BusLimits | None = None) -> AsyncIterator[Scene]:
    bus, direct, clock, upstreams = FakeBus(), FakeDirect(), SystemClock(), FakeUpstreams()
    desk, hands = a_desk(TABLE, clock)
    service = BusService(bus, desk, upstreams, clock, direct=direct, limits=limits)
    service.open()
    try:
        yield Scene(bus, desk, hands, upstreams, service, direct)
    finally:
        await service.cut()
        desk.close()


def run(scenario: Callable[[Scene], Any], limits: BusLimits | None = None) -> None:
    async def main() -> None:
        async with a_scene(limits) as scene:
            await scenario(scene)

    asyncio.run(main())


def test_a_request_is_answered_with_the_designs_metadata_in_kloross_envelope() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(purpose="fast")
        topic, message = (await scene.bus.sent(1))[0]
        assert topic == message["signal"] == "llm.response.req_01"
        assert list(message) == [
            "signal", "ecosystem", "intensity", "facts", "incident_id", "trace", "ts", "schema_version",
        ]  # fmt: skip
        assert (message["ecosystem"], message["incident_id"], message["trace"]) == ("llm", "inc", "t")
        facts = message["facts"]
        metadata = facts["metadata"]
        assert (facts["request_id"], facts["success"], facts["response"]) == ("req_01", True, "Hello there.")
        assert metadata.pop("allocation_id").startswith("alloc_")
        assert 0 <= metadata.pop("queue_ms") < 1000
        assert metadata == {
            "model_id": "small",
            "version_id": "1",
            "profile": "cpu_only",
            "instance": "small-cpu_only",
            "reason": "'small' is choice 1 of 2 for purpose 'fast'.",
            "ttft_ms": 12.3,
            "tokens_per_sec": 45.2,
            "total_tokens": 10,
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "finish_reason": "stop",
            "duration_ms": 500.0,
        }

    run(scenario)


def test_a_flat_request_is_answered_and_its_id_becomes_the_incident() -> None:
    async def scenario(scene: Scene) -> None:
        scene.bus.arrive("llm.request", b'{"topic":"llm.request","request_id":"req_02","prompt":"Hi."}')
        _, message = (await scene.bus.sent(1))[0]
        assert (message["incident_id"], message["trace"]) == ("req_02", None)
        assert message["facts"]["success"]

    run(scenario)


def test_another_topic_that_begins_the_same_is_not_answered() -> None:
    async def scenario(scene: Scene) -> None:
        scene.bus.arrive("llm.request.x", b'{"request_id":"a","prompt":"Hi."}')
        assert scene.bus.published == []

    run(scenario)


def test_a_request_delivered_twice_is_answered_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send()
        scene.send()
        await scene.reply()
        scene.send()
        assert len(scene.bus.published) == 1
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_a_resend_after_a_lost_reply_gets_the_same_answer_and_asks_no_model() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(ts=1.0)
        first = await scene.reply()
        scene.send(ts=2.0)
        assert await scene.reply(2) == first
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_a_resend_in_flight_waits_for_the_first() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send(ts=1.0)
        scene.send(ts=2.0)
        scene.upstreams.gate.set()
        await scene.reply()
        assert len(scene.bus.published) == 1
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_a_reply_is_text_so_tools_are_not_offered() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(persona="mechanic")
        await scene.reply()
        _, body = scene.upstreams.asked[0]
        assert "tools" not in body
        assert body["response_format"] == {"type": "json_object"}

    run(scenario)


def test_what_is_asked_reaches_the_model_and_a_persona_is_merged_in() -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(persona="pirate", max_tokens=5, temperature=0.1)
        facts = await scene.reply()
        assert facts["metadata"]["persona"] == "pirate"
        _, body = scene.upstreams.asked[0]
        assert body == {
            "messages": [
                {"role": "system", "content": "Talk like a pirate."},
                {"role": "user", "content": "Hi."},
            ],
            "max_tokens": 5,
            "temperature": 0.1,
            "stop": ["Arr"],
        }

    run(scenario)


def test_thinking_goes_into_the_metadata() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.answer = replace(scene.upstreams.answer, text="<think>2+2</think>Four.")
        scene.send("req_01")
        facts = await scene.reply()
        assert (facts["response"], facts["metadata"]["reasoning"]) == ("Four.", "2+2")
        scene.upstreams.answer = replace(scene.upstreams.answer, text="Four.", reasoning="2+2")
        scene.send("req_02")
        facts = await scene.reply(2)
        assert (facts["response"], facts["metadata"]["reasoning"]) == ("Four.", "2+2")

    run(scenario)


@pytest.mark.parametrize(
    ("wishes", "code", "is_temporary"),
    [
        ({"model": "smal"}, "KI801", False),
        ({"persona": "pirat"}, "KI802", False),
        ({"purpose": "fst"}, "KI803", False),
        ({"constraints": {"min_context_tokens": 10**6}}, "KI807", False),
        ({"prompt": 5}, "KI810", False),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(
    wishes: dict[str, Any], code: str, is_temporary: bool
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.send(**wishes)
        facts = await scene.reply()
        assert (facts["success"], facts["response"]) == (False, "")
        assert facts["error"]["code"] == code
        assert facts["error"]["hint"]
        assert facts["error"]["is_temporary"] is is_temporary
        assert scene.upstreams.asked == []

    run(scenario)


def test_a_message_without_a_readable_id_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        scene.bus.arrive("llm.request", b'{"prompt":"secret-word"}')
        assert scene.bus.published == []
        assert scene.face.dropped_count == 1

    run(scenario)
    assert "no readable request_id" in caplog.text
    assert "secret-word" not in caplog.text


def test_a_dead_instance_is_replaced_by_the_next_candidate() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.dead = {"small-cpu_only"}
        scene.send()
        facts = await scene.reply()
        assert facts["metadata"]["model_id"] == "spare"
        scene.hands.verdicts["small-cpu_only"] = Verdict.FAILING
        assert [instance for instance, _ in scene.upstreams.asked] == ["small-cpu_only", "spare-cpu_only"]
        scene.send("req_02")
        await scene.reply(2)
        assert len(scene.upstreams.asked) == 3, "the dead instance is not asked again"

    run(scenario)


def test_a_dead_instance_without_a_replacement_is_a_temporary_failure_that_names_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.dead = {"small-cpu_only"}
        scene.hands.verdicts["small-cpu_only"] = Verdict.FAILING
        scene.send(model="small")
        facts = await scene.reply()
        assert facts["error"]["code"] == "KI820"
        assert facts["error"]["is_temporary"] is True
        assert facts["metadata"]["instance"] == "small-cpu_only"
        scene.send("req_02", model="small")
        assert (await scene.reply(2))["error"]["code"] == "KI872"

    run(scenario)


def test_what_an_instance_refuses_is_not_asked_for_elsewhere() -> None:
    async def scenario(scene: Scene) -> None:
        problem = upstream_refused(a_target(), 400, "too long")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.REFUSED, started=True)
        scene.send()
        assert (await scene.reply())["error"]["code"] == problem.code
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_max_latency_is_a_deadline() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send(constraints={"max_latency_ms": 20})
        assert (await scene.reply())["error"]["code"] == "KI826"
        assert scene.upstreams.calls[0].is_cancelled
        assert scene.desk.health()["runtimes"][0]["active_requests"] == 0

    run(scenario)


def test_waiting_for_a_turn_counts_towards_the_deadline() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send("slow", model="small")
        scene.send("waits", model="small", timeout_s=0.02)
        facts = await scene.reply()
        assert facts["request_id"] == "waits"
        assert facts["error"]["code"] == "KI870"
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_more_requests_than_the_router_holds_are_told_so() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        for number in range(3):
            scene.send(f"req_{number}")
        facts = await scene.reply()
        assert (facts["request_id"], facts["error"]["code"]) == ("req_2", "KI816")
        scene.upstreams.gate.set()
        assert {facts["facts"]["success"] for _, facts in (await scene.bus.sent(3))[1:]} == {True}

    run(scenario, BusLimits(pending=2))


def test_a_defect_is_answered_and_logged_and_the_next_request_is_served(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.defect = ZeroDivisionError("planted")
        scene.send()
        assert (await scene.reply())["error"]["code"] == "KI815"
        scene.upstreams.defect = None
        scene.send("req_02")
        assert (await scene.reply(2))["success"]

    run(scenario)
    assert "planted" in caplog.text


def test_a_figure_that_json_cannot_write_is_null() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.answer = replace(scene.upstreams.answer, tokens_per_s=float("inf"))
        scene.send()
        facts = await scene.reply()
        assert facts["success"]
        assert facts["metadata"]["tokens_per_sec"] is None

    run(scenario)


def test_draining_finishes_what_is_in_flight_and_refuses_what_comes() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send("in_flight")
        draining = asyncio.create_task(scene.service.drain(10))
        await asyncio.sleep(0)
        scene.send("late")
        facts = await scene.reply()
        assert (facts["request_id"], facts["error"]["code"]) == ("late", "KI812")
        scene.upstreams.gate.set()
        await draining
        assert (await scene.reply(2))["success"]

    run(scenario)


def test_what_is_cut_is_told_so() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send()
        await scene.service.drain(0.01)
        await scene.service.cut()
        facts = await scene.reply()
        assert (facts["error"]["code"], facts["error"]["is_temporary"]) == ("KI812", True)

    run(scenario)


def test_health_and_heartbeat_are_published_as_kloros_reads_them() -> None:
    async def scenario(scene: Scene) -> None:
        scene.service.reports.report_health()
        scene.service.reports.beat()
        (topic, health), (beat_topic, beat) = await scene.bus.sent(2)
        assert (topic, health["ecosystem"]) == ("llm.health", "llm")
        assert health["facts"]["gpu_profile"] == "cpu_only"
        assert health["incident_id"]
        assert (beat_topic, beat["ecosystem"]) == ("HEARTBEAT", "colony")
        assert beat["facts"] == {
            "zooid": "kloros-infra-router",
            "niche": "llm",
            "uptime_s": 0.0,
            "processed_count": 0,
        }
        assert beat["incident_id"] is None

    run(scenario)


def test_one_line_is_logged_per_request_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        scene.send("req_01", purpose="fast", prompt="secret-word")
        await scene.reply()
        scene.send("req_02", model="nobody")
        await scene.reply(2)

    with caplog.at_level(logging.INFO, "kloros_infra.daemon.bus_face"):
        run(scenario)
    assert caplog.messages == [
        "bus id=req_01 purpose=fast model=small profile=cpu_only ttft_ms=12 tokens_per_s=45.2 outcome=ok",
        "bus id=req_02 purpose=- model=- profile=- ttft_ms=- tokens_per_s=- outcome=KI801",
    ]
