"""Instances are started and stopped over ChemBus as over the control socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.bus_control import BusControl
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import FakeHands, a_desk

TABLE = a_routing_table(a_routed_model("qwen-coder", an_upstream("code-cpu_only"), name="code"))


class Published:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def publish(self, topic: str, payload: bytes) -> None:
        self.messages.append((topic, json.loads(payload)))


def told(test: Callable[[BusControl, Published, FakeHands], None]) -> None:
    async def within() -> None:
        clock, bus = SystemClock(), Published()
        desk, hands = a_desk(TABLE, clock)
        try:
            test(BusControl(bus, desk, clock), bus, hands)  # type: ignore[arg-type]  # it publishes, and no more
        finally:
            desk.close()

    asyncio.run(within())


def test_an_order_is_carried_out_and_answered_as_often_as_it_comes() -> None:
    def test(control: BusControl, bus: Published, hands: FakeHands) -> None:
        facts = {"request_id": "r1", "profile": "code-cpu_only", "from": "somebody"}
        flat, enveloped = json.dumps(facts).encode(), json.dumps({"facts": facts, "incident_id": "i1"}).encode()
        control.take_stop(enveloped)
        control.take_stop(flat)
        assert hands.orders == [("stop", "code-cpu_only")]
        (topic, first), (_, second) = bus.messages
        assert topic == first["signal"] == "llm.runtime.response.r1"
        assert (first["ecosystem"], first["incident_id"], second["incident_id"]) == ("llm", "i1", None)
        assert (first["facts"]["status"], first["facts"]["runtime"]["status"]) == (202, "stopping")
        control.take_start(flat)
        assert bus.messages[2][1]["facts"]["runtime"]["profile"] == "code-cpu_only"

    told(test)


def test_what_cannot_be_is_answered_with_a_diagnostic() -> None:
    def test(control: BusControl, bus: Published, hands: FakeHands) -> None:
        control.take_start(b'{"request_id":"r2","profile":"cod"}')
        ((_, message),) = bus.messages
        assert (message["facts"]["status"], message["facts"]["error"]["code"]) == (404, "KI843")
        assert hands.orders == []

    told(test)


@pytest.mark.parametrize(
    "payload", [b"no JSON", b"[]", b'{"profile":"code"}', b'{"request_id":"a/b","profile":"code"}']
)
def test_what_nobody_could_be_answered_is_dropped(payload: bytes, caplog: pytest.LogCaptureFixture) -> None:
    def test(control: BusControl, bus: Published, hands: FakeHands) -> None:
        control.take_stop(payload)
        assert (bus.messages, hands.orders) == ([], [])

    told(test)
    assert "no readable request_id" in caplog.text
