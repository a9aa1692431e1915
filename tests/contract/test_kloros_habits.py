"""What KLoROS's services really do on the bus, against the router on real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from kloros_infra.adapters.bus_proxy import BusProxy
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.events import Polled, Verdict
from tests.fakes.router import a_proxy, a_router, addresses_of
from tests.fakes.upstreams import FakeUpstreams

INSTANCE = "small-cpu_only"


@pytest.fixture
def bus() -> Iterator[RoutedBus]:
    with a_proxy() as proxy:
        assert isinstance(proxy, BusProxy)
        yield addresses_of(proxy)


class Zooid:
    """A publisher and a subscriber as ChemPub and ChemSub are: the first message of each topic is sent twice."""

    def __init__(self, bus: RoutedBus, *topics: str) -> None:
        self._context = zmq.Context()
        self._publisher, self._subscriber = self._context.socket(zmq.PUB), self._context.socket(zmq.SUB)
        self._publisher.set_hwm(1000)
        self._publisher.connect(bus.xsub)
        for topic in (*topics, "ready"):
            self._subscriber.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._subscriber.connect(bus.xpub)
        self._seen: set[str] = set()
        deadline = time.monotonic() + 10
        while not self._subscriber.poll(20):
            assert time.monotonic() < deadline
            self._publisher.send_multipart([b"ready", b"{}"])
        while self._subscriber.poll(50):
            self._subscriber.recv_multipart()

    def emit(self, topic: str, facts: dict[str, Any], *, incident_id: str | None = None, **more: Any) -> None:
        message = {"signal": topic, "ecosystem": "test", "intensity": 1.0, "facts": facts, "incident_id": incident_id}
        self.send(topic, {**message, "trace": None, "ts": time.time(), "schema_version": 1, **more})

    def send(self, topic: str, message: dict[str, Any]) -> None:
        frames = [topic.encode(), json.dumps(message, separators=(",", ":")).encode()]
        self._publisher.send_multipart(frames)
        if topic not in self._seen:
            self._seen.add(topic)
            time.sleep(0.15)  # ChemPub does
            self._publisher.send_multipart(frames)

    def heard(self, quiet_ms: int = 300) -> list[tuple[str, dict[str, Any]]]:
        """Give what has come, once it has been quiet for a while."""
        found = []
        while self._subscriber.poll(quiet_ms):
            topic, payload = self._subscriber.recv_multipart()
            if topic != b"ready":
                found.append((topic.decode(), json.loads(payload)))
        return found

    def close(self) -> None:
        self._context.destroy(linger=0)


def test_a_first_message_sent_twice_is_answered_once_with_or_without_an_incident(bus: RoutedBus) -> None:
    upstreams = FakeUpstreams()

    def habits() -> list[tuple[str, dict[str, Any]]]:
        zooid = Zooid(bus, "llm.response.", "VOICE.LLM.RESPONSE")
        zooid.emit("llm.request", {"request_id": "req_1", "prompt": "Hi."}, incident_id=None)
        zooid.emit("VOICE.ORCHESTRATOR.LLM.REQUEST", {"prompt": "Hi.", "mode": "streaming"}, incident_id=None)
        heard = zooid.heard()
        zooid.close()
        return heard

    heard = asyncio.run(beside(bus, upstreams, habits))
    assert sorted(topic for topic, _ in heard) == ["VOICE.LLM.RESPONSE", "llm.response.req_1"]
    assert {topic: message["incident_id"] for topic, message in heard} == {
        "llm.response.req_1": "req_1",
        "VOICE.LLM.RESPONSE": None,
    }
    assert len(upstreams.asked) == 2


def test_who_asks_again_after_the_answer_gets_it_again_whether_the_bytes_are_the_same_or_not(bus: RoutedBus) -> None:
    upstreams = FakeUpstreams()

    def habits() -> list[tuple[str, dict[str, Any]]]:
        zooid = Zooid(bus, "llm.response.")
        question = {"signal": "llm.request", "facts": {"request_id": "req_1", "prompt": "Hi."}, "ts": 1.0}
        zooid.send("llm.request", question)
        heard = zooid.heard(1100)  # so long that the same bytes are no double any more
        zooid.send("llm.request", {**question, "ts": 2.0})
        zooid.send("llm.request", question)
        heard += zooid.heard()
        zooid.close()
        return heard

    heard = asyncio.run(beside(bus, upstreams, habits))
    assert [topic for topic, _ in heard] == ["llm.response.req_1"] * 3
    assert heard[0] == heard[1] == heard[2]
    assert len(upstreams.asked) == 1


def test_topics_that_begin_alike_and_keys_that_nobody_knows(bus: RoutedBus) -> None:
    upstreams = FakeUpstreams()

    def habits() -> list[tuple[str, dict[str, Any]]]:
        zooid = Zooid(bus, "llm.response.req_1")
        zooid.emit("llm.request.x", {"request_id": "req_12", "prompt": "not ours"})
        zooid.emit("llm.request", {"request_id": "req_1", "prompt": "Hi."}, channel="legacy", facts_toon="x")
        zooid.send("llm.request", {"topic": "llm.request", "request_id": "req_10", "prompt": "flat"})
        heard = zooid.heard()
        zooid.close()
        return heard

    heard = asyncio.run(beside(bus, upstreams, habits))
    assert sorted(topic for topic, _ in heard) == ["llm.response.req_1", "llm.response.req_10"]
    assert [message["signal"] for _, message in heard] == [topic for topic, _ in heard]
    assert len(upstreams.asked) == 2


def test_who_gives_up_on_a_cold_model_is_served_when_he_comes_again(bus: RoutedBus) -> None:
    """KLoROS's voice waits ten seconds and asks anew, under another id, and the model goes on loading meanwhile."""
    upstreams = FakeUpstreams()

    async def main() -> list[tuple[str, dict[str, Any]]]:
        verdicts = {INSTANCE: Verdict.LOADING}
        async with a_router(bus, upstreams, verdicts=verdicts) as service:
            service.desk.tell(Polled(INSTANCE, Verdict.LOADING))
            zooid = await asyncio.to_thread(Zooid, bus, "llm.response.")
            await asyncio.to_thread(zooid.emit, "llm.request", {"request_id": "cold", "prompt": "Hi."})
            assert await asyncio.to_thread(zooid.heard) == []
            await asyncio.to_thread(zooid.emit, "llm.request", {"request_id": "again", "prompt": "Hi."})
            verdicts[INSTANCE] = Verdict.HEALTHY
            service.desk.tell(Polled(INSTANCE, Verdict.HEALTHY))
            heard = await asyncio.to_thread(zooid.heard)
            zooid.close()
            return heard

    heard = asyncio.run(main())
    assert {topic: message["facts"]["success"] for topic, message in heard} == {
        "llm.response.cold": True,
        "llm.response.again": True,
    }


async def beside(bus: RoutedBus, upstreams: FakeUpstreams, habits: Any) -> list[tuple[str, dict[str, Any]]]:
    """Do what KLoROS does in a thread beside a router."""
    async with a_router(bus, upstreams):
        found: list[tuple[str, dict[str, Any]]] = await asyncio.to_thread(habits)
        return found
