"""All that the router does on ChemBus: requests, KLoROS's requests for words, and what it says of itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kloros_infra.daemon.answer_log import AnswerLog
from kloros_infra.daemon.bus_control import BusControl
from kloros_infra.daemon.bus_face import BusFace, BusLimits
from kloros_infra.daemon.bus_reports import BusReports
from kloros_infra.daemon.bus_request import SWEEP_S, BusMeans, BusRequest
from kloros_infra.daemon.deadlines import DeadlineWatch
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.ports import Bus, Clock, Direct, Upstreams
from kloros_infra.daemon.voice_face import VoiceFace
from kloros_infra.ir.messages import (
    CANCEL_TOPIC,
    PING_TOPIC,
    PONG_TOPIC,
    REQUEST_TOPIC,
    RUNTIME_START_TOPIC,
    RUNTIME_STOP_TOPIC,
    VOICE_REQUEST_TOPIC,
)
from kloros_infra.ir.routing import RoutedBus


def topics(bus: RoutedBus) -> tuple[str, ...]:
    """Name what the router subscribes to."""
    voice = (VOICE_REQUEST_TOPIC,) if bus.has_voice else ()
    return (REQUEST_TOPIC, CANCEL_TOPIC, PING_TOPIC, PONG_TOPIC, RUNTIME_START_TOPIC, RUNTIME_STOP_TOPIC, *voice)


class BusService:
    """Answers and reports from `open` on; `follow` goes on for ever, `drain` and `cut` end it."""

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        bus: Bus,
        desk: Desk,
        upstreams: Upstreams,
        clock: Clock,
        *,
        direct: Direct | None = None,
        answers: AnswerLog | None = None,
        limits: BusLimits | None = None,
    ) -> None:
        self.desk = desk
        self._watch: DeadlineWatch[BusRequest] = DeadlineWatch(SWEEP_S)
        means = BusMeans(desk, upstreams, self._watch)
        self.face = BusFace(bus, means, clock, direct=direct, answers=answers, limits=limits)
        self.reports = BusReports(bus, desk, self.face, clock)
        control = BusControl(bus, desk, clock)
        self.face.listeners |= {RUNTIME_START_TOPIC: control.take_start, RUNTIME_STOP_TOPIC: control.take_stop}
        self.voice: VoiceFace | None = None
        if desk.table.bus.has_voice:
            self.voice = VoiceFace(bus, means, clock)
            self.face.listeners[VOICE_REQUEST_TOPIC] = self.voice.take
            self.reports.on_joined.append(self.voice.say_ready)

    def open(self) -> None:
        """Take requests in from here on."""
        self.face.open()

    async def follow(self) -> None:
        """Report, and look after those who wait, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.face.follow())
            group.create_task(self.reports.follow())

    def refuse(self) -> None:
        """Refuse what comes from now on."""
        self.face.close()
        if self.voice is not None:
            self.voice.close()

    async def drain(self, timeout_s: float) -> None:
        """Refuse what comes from now on; wait for what is in flight, at most `timeout_s`."""
        self.refuse()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.face.drained()
                if self.voice is not None:
                    await self.voice.drained()

    async def cut(self) -> None:
        """End what is still in flight; each request is told so."""
        await self.face.cut()
        if self.voice is not None:
            self.voice.cut()
        self._watch.close()
