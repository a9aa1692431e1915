"""What the router says on ChemBus unasked: health, profile, allocations, heartbeat.

A message that is published before the bus is there is lost, and so is the proxy's memory of the last one when it
restarts: so a ping to ourselves, with every heartbeat, tells when the bus has come (back), and all is said again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kloros_infra.daemon.announcements import Announcements
from kloros_infra.daemon.bus_face import BusFace
from kloros_infra.daemon.card_reports import iso, profile_facts
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import Bus, Clock
from kloros_infra.ir.messages import (
    ALLOCATION_TOPIC,
    GPU_PROFILE_TOPIC,
    HEALTH_TOPIC,
    HEARTBEAT_ECOSYSTEM,
    HEARTBEAT_TOPIC,
    LLM_ECOSYSTEM,
    PONG_TOPIC,
    VOICE_ECOSYSTEM,
    VOICE_SPEAK_TOPIC,
)
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.effects import Allocated, Announce
from kloros_infra.router.wire import write_message

ZOOID = "kloros-infra-router"
NICHE = "llm"
HEALTH_S = 30.0
FIGURES_S = 2.0
HEARTBEAT_S = 10.0
JOINING_S = 0.1
"""How often we ping ourselves while the bus is not there."""
PAUSE_S = 0.05


class BusReports:
    """Says how the router is; `follow` goes on for ever."""

    def __init__(self, bus: Bus, desk: Desk, face: BusFace, clock: Clock) -> None:
        self._bus = bus
        self._desk = desk
        self._face = face
        self._clock = clock
        self._announcements = Announcements(desk, clock, self._speak)
        self._started_at = clock.now()
        self._nonce = ""
        self._came_back = asyncio.Event()
        self._is_joined = False
        self._profile = ""
        self._profile_since = 0.0
        self._told_facts: Mapping[str, Any] = {}
        self.on_joined: list[Callable[[], None]] = []
        """Told when the bus has come, or come back."""

    async def follow(self) -> None:
        """Report for ever."""
        self._face.listeners[PONG_TOPIC] = self._on_own
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._report())
            group.create_task(self._follow_figures())

    def report_health(self) -> None:
        """Publish `llm.health`."""
        self._publish(HEALTH_TOPIC, self._health(), incident_id=secrets.token_hex(8))

    def report_profile(self) -> None:
        """Publish `llm.gpu_profile`; its time is that of the last change of profile."""
        desk = self._desk
        profile, report = desk.profile, desk.cards
        if profile != self._profile:
            self._profile, self._profile_since = profile, self._clock.epoch_s()
        is_decided = report is not None and report.profile == profile
        since = report.since_epoch_s if report is not None and is_decided else self._profile_since
        self._told_facts = facts = profile_facts(desk.table, profile, report)
        self._publish(GPU_PROFILE_TOPIC, {**facts, "timestamp": iso(since)}, incident_id=secrets.token_hex(8))

    def report_allocation(self, allocated: Allocated) -> None:
        """Publish `llm.allocation`."""
        offset_s = self._clock.epoch_s() - self._clock.now()
        facts = allocation_facts(allocated, self._desk.table, epoch_offset_s=offset_s)
        incident_id = f"{allocated.allocation_id}.{allocated.change}"
        self._publish(ALLOCATION_TOPIC, facts, incident_id=incident_id)

    def announce(self, announce: Announce) -> None:
        """Have KLoROS say aloud what has changed, where that is wanted; `llm.health` tells of it by itself."""
        self._announcements.tell(announce)

    def _speak(self, text: str, urgency: float) -> None:
        facts = {"text": text, "affective_state": {}, "urgency": urgency, "timestamp": self._clock.epoch_s()}
        incident_id = f"{ZOOID}-{secrets.token_hex(8)}"
        self._publish(VOICE_SPEAK_TOPIC, facts, ecosystem=VOICE_ECOSYSTEM, incident_id=incident_id)

    def beat(self) -> None:
        """Publish KLoROS's HEARTBEAT; it has no incident id there either."""
        uptime_s = round(self._clock.now() - self._started_at, 1)
        count = self._face.answered_count
        facts = {"zooid": ZOOID, "niche": NICHE, "uptime_s": uptime_s, "processed_count": count}
        self._publish(HEARTBEAT_TOPIC, facts, ecosystem=HEARTBEAT_ECOSYSTEM)

    async def _report(self) -> None:
        """Publish health and profile when they change, and every HEALTH_S."""
        desk = self._desk
        while True:
            told = desk.outline()
            self._report_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALTH_S):
                    while desk.outline() == told:
                        desk.changed.clear()
                        await desk.changed.wait()
                        # Much may follow from one change; it is told together.
                        await asyncio.sleep(PAUSE_S)

    async def _follow_figures(self) -> None:
        """Publish the profile when only the memory of its cards is another: seldom, as that changes all the time."""
        desk = self._desk
        while True:
            await asyncio.sleep(FIGURES_S)
            if self._told_facts and profile_facts(desk.table, desk.profile, desk.cards) != self._told_facts:
                self.report_profile()

    async def _beat(self) -> None:
        """Beat, and find out by each beat whether the bus is there."""
        while True:
            self.beat()
            self._nonce = secrets.token_hex(8)
            self._came_back.clear()
            while not await self._hears_itself():
                self._is_joined = False
            if not self._is_joined:
                self._is_joined = True
                self._report_all()
                for told in self.on_joined:
                    told()
            await asyncio.sleep(HEARTBEAT_S)

    async def _hears_itself(self) -> bool:
        self._publish(PONG_TOPIC, {"router": self._face.incarnation, "nonce": self._nonce}, incident_id=self._nonce)
        with suppress(TimeoutError):
            async with asyncio.timeout(JOINING_S):
                await self._came_back.wait()
        return self._came_back.is_set()

    def _on_own(self, payload: bytes) -> None:
        if self._nonce.encode() in payload:
            self._came_back.set()

    def _report_all(self) -> None:
        self.report_health()
        self.report_profile()

    def _health(self) -> dict[str, Any]:
        face = self._face
        waiting, answered, dropped = self._desk.waiting, face.answered_count, face.dropped_count
        return {**self._desk.health(), "waiting": waiting, "bus": {"answered": answered, "dropped": dropped}}

    def _publish(
        self, topic: str, facts: Mapping[str, Any], *, ecosystem: str = LLM_ECOSYSTEM, incident_id: str | None = None
    ) -> None:
        self._bus.publish(
            topic, write_message(topic, ecosystem, facts, ts=self._clock.epoch_s(), incident_id=incident_id)
        )


def allocation_facts(allocated: Allocated, table: RoutingTable, *, epoch_offset_s: float) -> dict[str, Any]:
    """Give the design document's allocation record (section 5.1), and what happened to it."""
    return {
        "event": allocated.change.value,
        "allocation_id": allocated.allocation_id,
        # Two clients of the direct endpoint may use one id at a time (daemon.bus_face): no id has the sign in it.
        "request_id": allocated.request_id.partition("@")[0],
        "model_id": allocated.model_id,
        "profile": allocated.profile,
        "target": allocated.target,
        "endpoint": endpoint_of(table, allocated.target),
        "created_at": iso(allocated.created_at + epoch_offset_s),
        "ttl": allocated.ttl_s,
    }


def endpoint_of(table: RoutingTable, target: str) -> str | None:
    """Name the URL of an instance, or of a model of a remote host (`host/model`); None where it has left the table."""
    for model in table.models:
        for upstream in model.upstreams:
            if upstream.instance == target:
                return f"http://{upstream.host}:{upstream.port}/v1/chat/completions"
    name = target.partition("/")[0]
    for host in table.hosts:
        if host.name == name:
            scheme = "https" if host.is_tls else "http"
            return f"{scheme}://{host.address}:{host.port}{host.path}/v1/chat/completions"
    return None
