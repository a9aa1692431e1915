"""The bus face: one reply per request, whatever comes, in time and in KLoROS's envelope."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.line_journal import LineJournal
from kloros_infra.daemon import answer_log
from kloros_infra.daemon.answer_log import AnswerLog
from kloros_infra.daemon.bus_face import BusFace, BusLimits
from kloros_infra.daemon.bus_service import BusService
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_problems import answer_cut_off, upstream_refused
from kloros_infra.daemon.ports import Journal, UpstreamError
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.events import Outcome, UnitSeen, Verdict
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES
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
    purposes=(
        RoutedPurpose(name="fast", candidates=("small", "spare"), otherwise=None, is_default=True),
        RoutedPurpose(
            name="patient",
            candidates=("small", "spare"),
            otherwise=None,
            is_default=False,
            can_continue_elsewhere=True,
        ),
    ),
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


async def until(is_so: Callable[[], bool], why: str = "") -> None:
    """Poll a condition with a deadline."""
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(why)


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


def test_another_question_under_an_id_that_is_being_answered_is_refused_with_its_own_incident() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send(prompt="What is the capital of France?")
        for _ in range(2):  # as ChemPub does
            scene.bus.arrive("llm.request", b'{"facts":{"request_id":"req_01","prompt":"Hi."},"incident_id":"other"}')
        scene.send(metadata={"source_service": "another"}, prompt="What is the capital of France?")
        scene.upstreams.gate.set()
        (_, first), (_, second), (_, answer) = await scene.bus.sent(3)
        assert [one["facts"]["error"]["code"] for one in (first, second)] == ["KI713", "KI713"]
        assert [one["incident_id"] for one in (first, second, answer)] == ["other", "inc", "inc"]
        assert answer["facts"]["success"]
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


# Answers in pieces.


def test_a_stream_comes_in_pieces_and_then_whole() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("Hello ", "there.")
        scene.send(stream=True)
        first, second, last = [message for _, message in await scene.bus.sent(3)]
        router = scene.face.incarnation
        assert first["facts"] == {"request_id": "req_01", "seq": 0, "delta": "Hello ", "done": False, "router": router}
        assert (second["facts"]["seq"], second["facts"]["delta"]) == (1, "there.")
        assert (last["facts"]["response"], last["facts"]["done"], last["facts"]["seq"]) == ("Hello there.", True, 2)
        assert len({message["incident_id"] for message in (first, second, last)}) == 3, "KLoROS drops doubles by it"
        assert {message["signal"] for message in (first, second, last)} == {"llm.response.req_01"}

    run(scenario)


def test_what_a_model_thinks_is_no_piece_of_its_answer() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("<thi", "nk>2+2", "</think>", "\nFour", ".")
        scene.upstreams.answer = replace(scene.upstreams.answer, text="<think>2+2</think>\nFour.")
        scene.send(stream=True)
        facts = [message["facts"] for _, message in await scene.bus.sent(3)]
        assert [one["delta"] for one in facts[:2]] == ["Four", "."]
        assert facts[2]["response"] == "Four."

    run(scenario)


def test_a_stream_that_breaks_off_says_so_and_keeps_what_was_said() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("Hello ",)
        problem = upstream_refused(a_target(), 502, "gone")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.BROKEN, started=True)
        scene.send(stream=True)
        last = (await scene.bus.sent(2))[1][1]["facts"]
        assert (last["success"], last["done"], last["error"]["code"]) == (False, True, problem.code)
        assert last["metadata"]["partial"] == "Hello "
        assert len(scene.upstreams.asked) == 1, "nobody else is asked for the rest where the purpose does not allow it"

    run(scenario)


def test_a_stream_of_an_instance_that_was_stopped_says_so() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("Hello ",)
        scene.upstreams.failure = UpstreamError(answer_cut_off(a_target()), outcome=Outcome.BROKEN, started=True)
        scene.upstreams.gate.clear()
        scene.send(stream=True)
        await until(lambda: bool(scene.upstreams.calls))
        scene.desk.tell(UnitSeen("small-cpu_only", is_up=True, is_stopping=True))
        scene.upstreams.gate.set()
        error = (await scene.bus.sent(2))[1][1]["facts"]["error"]
        assert (error["code"], "its unit was stopped" in error["message"]) == ("KI823", True)

    run(scenario)


def test_a_stream_goes_on_elsewhere_where_the_purpose_allows_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("Hello ",)
        problem = upstream_refused(a_target(), 502, "gone")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.BROKEN, started=True)
        scene.upstreams.then = (("there.",), replace(scene.upstreams.answer, text="there."))
        scene.send(stream=True, purpose="patient", max_tokens=9)
        facts = [message["facts"] for _, message in await scene.bus.sent(3)]
        assert [one["delta"] for one in facts[:2]] == ["Hello ", "there."]
        assert (facts[2]["success"], facts[2]["response"]) == (True, "Hello there.")
        (_, first), (_, second) = scene.upstreams.asked
        assert second["messages"] == [*first["messages"], {"role": "assistant", "content": "Hello "}]
        assert second["max_tokens"] == 8

    run(scenario)


def test_an_answer_that_must_have_a_form_is_not_taken_up_in_the_middle() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.pieces = ("{",)
        problem = upstream_refused(a_target(), 502, "gone")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.BROKEN, started=True)
        scene.send(stream=True, purpose="patient", persona="mechanic")
        last = (await scene.bus.sent(2))[1][1]["facts"]
        assert (last["success"], last["metadata"]["partial"]) == (False, "{")
        assert scene.desk.waiting == 0

    run(scenario)


# Cancelling, and going away.


def test_a_cancelled_request_stops_the_upstream_and_is_told_so() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send()
        scene.bus.arrive("llm.cancel", b'{"facts":{"request_id":"req_01"}}')
        assert scene.upstreams.calls[0].is_cancelled
        facts = await scene.reply()
        assert (facts["error"]["code"], facts["error"]["is_temporary"]) == ("KI711", False)
        assert scene.desk.waiting == 0
        scene.bus.arrive("llm.cancel", b'{"facts":{"request_id":"req_01"}}')
        scene.bus.arrive("llm.cancel", b"no json")
        assert len(scene.bus.published) == 1

    run(scenario)


def a_direct(request_id: str = "req_01", *, signal: str = "llm.request", ts: float = 1.0, **facts: Any) -> bytes:
    asked = {"request_id": request_id, "prompt": "Hi.", **facts}
    return json.dumps({"signal": signal, "facts": asked, "ts": ts}).encode()


def test_who_asks_directly_is_answered_directly_and_nobody_else_hears() -> None:
    async def scenario(scene: Scene) -> None:
        scene.direct.arrive(b"alice", a_direct())
        scene.direct.arrive(b"bob", b'{"request_id":"flat","prompt":"Hi."}')
        scene.direct.arrive(b"bob", a_direct(signal="llm.requests"))
        assert [(client, message["facts"]["request_id"]) for client, message in scene.direct.sent] == [
            (b"alice", "req_01"),
            (b"bob", "flat"),
        ]
        assert scene.bus.published == []
        assert scene.face.dropped_count == 1

    run(scenario)


def test_who_comes_in_at_both_doors_is_answered_at_both_and_the_model_is_asked_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.direct.arrive(b"alice", a_direct(ts=1.0))
        scene.direct.arrive(b"alice", a_direct(ts=2.0))
        scene.send()
        scene.upstreams.gate.set()
        await scene.reply()
        assert len(scene.direct.sent) == len(scene.bus.published) == len(scene.upstreams.asked) == 1
        scene.direct.arrive(b"alice", a_direct(ts=3.0))
        assert len(scene.direct.sent) == 2
        assert len(scene.upstreams.asked) == 1

    run(scenario)


def test_clients_that_count_alike_are_answered_each_what_it_asked() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.direct.arrive(b"alice", a_direct(prompt="Capital of France?"))
        scene.direct.arrive(b"bob", a_direct(prompt="Dog in German?"))
        scene.direct.arrive(b"bob", a_direct(prompt="Dog in German?"))
        scene.direct.arrive(b"bob", a_direct(prompt="And in French?"))
        ((client, refusal),) = scene.direct.sent
        assert (client, refusal["facts"]["error"]["code"]) == (b"bob", "KI713")
        assert refusal["facts"]["request_id"] == "req_01"
        scene.upstreams.gate.set()
        await until(lambda: len(scene.direct.sent) == 3)
        assert {client for client, _ in scene.direct.sent[1:]} == {b"alice", b"bob"}
        assert {message["signal"] for _, message in scene.direct.sent} == {"llm.response.req_01"}
        for client, prompt in ((b"alice", "Capital of France?"), (b"bob", "Dog in German?")):
            scene.direct.arrive(client, a_direct(prompt=prompt))
            assert scene.direct.sent[-1][0] == client
            assert scene.direct.sent[-1] in scene.direct.sent[1:3], "the answer that it had"
        assert len(scene.upstreams.asked) == 2

    run(scenario)


def test_nobody_stops_what_another_client_waits_for() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        cancel = a_direct(signal="llm.cancel")
        scene.direct.arrive(b"alice", a_direct(prompt="Capital of France?"))
        for stranger in (b"bob", b"eve"):
            scene.direct.arrive(stranger, cancel)
        scene.bus.arrive("llm.cancel", cancel)
        scene.direct.arrive(b"bob", a_direct(prompt="Dog in German?", model="spare"))
        scene.direct.arrive(b"bob", cancel)
        assert [call.is_cancelled for call in scene.upstreams.calls] == [False, True]
        assert [client for client, _ in scene.direct.sent] == [b"bob"]
        assert not scene.upstreams.calls[0].is_cancelled
        scene.direct.arrive(b"alice", cancel)
        assert scene.upstreams.calls[0].is_cancelled

    run(scenario)


def test_of_two_who_asked_the_same_one_may_leave() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        for client in (b"alice", b"bob"):
            scene.direct.arrive(client, a_direct())
        scene.direct.arrive(b"bob", a_direct(signal="llm.cancel"))
        ((client, message),) = scene.direct.sent
        assert (client, message["facts"]["error"]["code"]) == (b"bob", "KI711")
        scene.upstreams.gate.set()
        await until(lambda: len(scene.direct.sent) == 2)
        assert scene.direct.sent[1][0] == b"alice"
        assert scene.direct.sent[1][1]["facts"]["success"]

    run(scenario)


def test_the_same_bytes_sent_directly_again_get_the_answer_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        for _ in range(3):
            scene.direct.arrive(b"alice", a_direct())
        assert len(scene.direct.sent) == 3
        assert len({json.dumps(message) for _, message in scene.direct.sent}) == 1
        scene.upstreams.gate.clear()
        scene.direct.arrive(b"alice", a_direct("busy", timeout_s=0.02))
        await until(lambda: len(scene.direct.sent) == 4)
        scene.upstreams.gate.set()
        scene.direct.arrive(b"alice", a_direct("busy", timeout_s=0.02))
        assert scene.direct.sent[4][1]["facts"]["success"], "a refusal that was temporary is no answer"

    run(scenario)


@pytest.mark.parametrize(
    ("payload", "request_id", "signal"),
    [
        (b'{"request_id":"req_1","prompt":"\\udce9"}', "req_1", "llm.response.req_1"),
        (b'{"request_id":"req_1","prompt":"' + b"x" * MAX_PAYLOAD_BYTES + b'"}', "req_1", "llm.response.req_1"),
        (a_direct("x" * 129), "x" * 129, f"llm.response.{'x' * 129}"),
        (a_direct("x" * 2000), None, "llm.response"),
        (a_direct("no id."), "no id.", "llm.response.no id."),
        (a_direct(""), "", "llm.response"),
        (b'{"prompt":"Hi."}', None, "llm.response"),
        (b'{"request_id":5,"prompt":"Hi."}', None, "llm.response"),
        (b"no json", None, "llm.response"),
    ],
)
def test_what_cannot_be_read_is_answered_at_the_direct_endpoint(
    payload: bytes, request_id: str | None, signal: str
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.direct.arrive(b"alice", payload)
        ((client, message),) = scene.direct.sent
        assert (client, message["signal"], message["facts"]["request_id"]) == (b"alice", signal, request_id)
        error = message["facts"]["error"]
        assert (error["code"], error["is_temporary"]) == ("KI810", False)
        assert scene.upstreams.asked == []

    run(scenario)


def test_who_is_gone_is_noticed_and_the_model_stops() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.direct.arrive(b"alice", a_direct("alone"))
        scene.direct.arrive(b"alice", a_direct("shared"))
        scene.direct.arrive(b"bob", a_direct("shared", ts=2.0))
        following = asyncio.create_task(scene.face.follow())
        await until(lambda: bool(scene.direct.sent))
        client, word = scene.direct.sent[0]
        assert (client, word["signal"]) == (b"alice", "llm.waiting")
        assert word["facts"] == {"request_id": "alone", "waiting": True, "queue_position": None}
        scene.direct.gone.add(b"alice")
        await until(lambda: scene.upstreams.calls[0].is_cancelled)
        following.cancel()
        assert not scene.upstreams.calls[1].is_cancelled, "bob still waits"
        scene.direct.gone.clear()
        scene.upstreams.gate.set()
        scene.direct.arrive(b"alice", a_direct("alone", ts=3.0))
        await until(lambda: len(scene.upstreams.asked) == 3, "it may ask again")

    run(scenario, BusLimits(waiting_s=0.01))


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_ping_is_answered_where_an_answer_would_come(is_direct: bool) -> None:
    async def scenario(scene: Scene) -> None:
        ping = a_direct("c-ping-1", signal="llm.ping")
        if is_direct:
            scene.direct.arrive(b"alice", ping)
            ((_, message),) = scene.direct.sent
        else:
            scene.bus.arrive("llm.ping", ping)
            ((_, message),) = scene.bus.published
        assert message["signal"] == "llm.response.c-ping-1"
        assert message["facts"] == {"request_id": "c-ping-1", "pong": True, "router": scene.face.incarnation}

    run(scenario)


# Back-pressure, and who asks.


def test_a_refusal_says_when_to_come_again_and_how_long_the_line_was() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        for number in range(3):
            scene.send(f"req_{number}")
        error = (await scene.reply())["error"]
        assert (error["code"], error["retry_after_s"], error["queue_position"]) == ("KI816", 1.0, 2)

    run(scenario, BusLimits(pending=2))


def test_metadata_of_any_kind_is_let_through() -> None:
    async def scenario(scene: Scene) -> None:
        for number, metadata in enumerate(([1], "text", 5, None, {"source_service": 5}, {"source_service": "x"})):
            scene.send(f"req_{number}", metadata=metadata)
            assert (await scene.reply(number + 1))["success"]

    run(scenario)


# Restarts.


@asynccontextmanager
async def a_router_with(journal: Journal, upstreams: FakeUpstreams) -> AsyncIterator[FakeBus]:
    bus, clock = FakeBus(), SystemClock()
    desk, _ = a_desk(TABLE, clock)
    service = BusService(bus, desk, upstreams, clock, answers=AnswerLog(journal, clock))
    service.open()
    try:
        yield bus
    finally:
        await service.cut()
        desk.close()


def ask_on(bus: FakeBus, request_id: str, *, ts: float, prompt: str = "Hi.") -> None:
    facts = {"request_id": request_id, "prompt": prompt}
    bus.arrive("llm.request", json.dumps({"facts": facts, "ts": ts}).encode())


def test_an_answer_outlives_the_router_that_gave_it(tmp_path: Path) -> None:
    async def main() -> None:
        journal, upstreams = LineJournal(tmp_path / "answers.log"), FakeUpstreams()
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=1)
            ask_on(bus, "refused", ts=1, prompt="")
            ((_, answer), _) = await bus.sent(2)
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=2)
            ask_on(bus, "a", ts=3, prompt="Another question?")
            ask_on(bus, "fresh", ts=2)
            replies = await bus.sent(3)
            assert replies[0][1] == answer
            assert len(upstreams.asked) == 3
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=4, prompt="Another question?")
            await bus.sent(1)
            assert len(upstreams.asked) == 3, "what was adopted is adopted again"

    asyncio.run(main())


def test_what_was_too_long_to_keep_is_known_to_have_been_answered(tmp_path: Path) -> None:
    async def main() -> None:
        journal, upstreams = LineJournal(tmp_path / "answers.log"), FakeUpstreams()
        upstreams.answer = replace(upstreams.answer, text="x" * 100_000)
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=1)
            ask_on(bus, "a", ts=2)
            assert len(await bus.sent(2)) == 2
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=3)
            ((_, message),) = await bus.sent(1)
            assert message["facts"]["error"]["code"] == "KI710"

    asyncio.run(main())


def test_a_temporary_refusal_is_no_answer_to_keep(tmp_path: Path) -> None:
    async def main() -> None:
        journal, upstreams = LineJournal(tmp_path / "answers.log"), FakeUpstreams()
        upstreams.gate.clear()
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=1)
        upstreams.gate.set()
        async with a_router_with(journal, upstreams) as bus:
            ask_on(bus, "a", ts=2)
            ((_, message),) = await bus.sent(1)
            assert message["facts"]["success"]

    asyncio.run(main())


def test_requests_are_answered_without_the_journal_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with a_router_with(LineJournal(tmp_path / "absent" / "answers.log"), FakeUpstreams()) as bus:
            ask_on(bus, "a", ts=1)
            assert (await bus.sent(1))[0][1]["facts"]["success"]

    asyncio.run(main())
    assert caplog.text.count("the journal of answers cannot be kept") == 1


def test_a_journal_that_has_grown_long_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_log, "MOST_CHARACTERS", 2000)
    file = tmp_path / "answers.log"

    async def main() -> None:
        async with a_router_with(LineJournal(file), FakeUpstreams()) as bus:
            for number in range(40):
                ask_on(bus, "same", ts=number, prompt=f"Question {number}")
                await asyncio.sleep(0.06)  # a line of its own each, as the journal breathes
        assert len(file.read_text().splitlines()) < 20

    asyncio.run(main())


# Of targets.


def test_a_target_that_still_loads_is_waited_for_and_not_blamed() -> None:
    async def scenario(scene: Scene) -> None:
        problem = upstream_refused(a_target(), 503, "Loading model")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.LOADING, started=True)
        scene.upstreams.then = ((), scene.upstreams.answer)
        scene.hands.verdicts["small-cpu_only"] = Verdict.LOADING
        scene.send(model="small")
        assert len(scene.upstreams.asked) == 1
        assert scene.desk.health()["runtimes"][0]["status"] == "loading"
        scene.hands.verdicts.clear()
        assert (await scene.reply())["success"]

    run(scenario)


def test_a_piece_of_thought_ends_the_hope_of_going_on_elsewhere() -> None:
    async def scenario(scene: Scene) -> None:
        problem = upstream_refused(a_target(), 502, "gone")
        scene.upstreams.failure = UpstreamError(problem, outcome=Outcome.BROKEN, started=True)
        scene.upstreams.gate.clear()
        scene.send(stream=True, purpose="patient")
        hearer = scene.upstreams.calls[0].hearer
        hearer.on_delta("", "2+2")
        hearer.on_delta("Four", "")
        scene.upstreams.gate.set()
        last = (await scene.bus.sent(2))[1][1]["facts"]
        assert (last["success"], last["metadata"]["partial"]) == (False, "Four")

    run(scenario)


def test_what_comes_after_the_end_is_not_passed_on() -> None:
    async def scenario(scene: Scene) -> None:
        scene.upstreams.gate.clear()
        scene.send(stream=True)
        scene.bus.arrive("llm.cancel", b'{"request_id":"req_01"}')
        hearer = scene.upstreams.calls[0].hearer
        hearer.on_delta("late", "")
        hearer.on_completion(scene.upstreams.answer)
        assert len(scene.bus.published) == 1

    run(scenario)


def test_a_defect_met_by_one_message_does_not_silence_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(scene: Scene) -> None:
        def fail(_payload: bytes) -> None:
            raise ZeroDivisionError("planted")

        scene.face.listeners["odd"] = fail
        scene.bus.arrive("odd", b"{}")
        scene.send()
        assert (await scene.reply())["success"]

    run(scenario)
    assert "planted" in caplog.text
