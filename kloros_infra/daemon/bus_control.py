"""The runtime control API on ChemBus: `llm.runtime.start` and `llm.runtime.stop`, for services that know no sockets.

Whoever reaches the bus may use it: the bus listens on loopback only, and knows nobody. An order that comes twice, as
KLoROS's publishers send first messages, changes nothing the second time, and is answered again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.openai import message as words_of
from kloros_infra.daemon.ports import Bus, Clock
from kloros_infra.daemon.runtime_orders import NamedRuntime, Ordered, RuntimeOrders
from kloros_infra.ir.messages import (
    LLM_ECOSYSTEM,
    RUNTIME_RESPONSE_PREFIX,
    RUNTIME_START_TOPIC,
    RUNTIME_STOP_TOPIC,
)
from kloros_infra.router.wire import facts_of, read_object, request_id_in, write_message

log = logging.getLogger(__name__)


class BusControl:
    """Takes orders from the bus; each is answered on `llm.runtime.response.{request_id}`."""

    def __init__(self, bus: Bus, desk: Desk, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._orders = RuntimeOrders(desk, clock.epoch_s)

    def take_start(self, payload: bytes) -> None:
        """Take an order to start an instance."""
        self._take(RUNTIME_START_TOPIC, payload, self._orders.start)

    def take_stop(self, payload: bytes) -> None:
        """Take an order to stop an instance."""
        self._take(RUNTIME_STOP_TOPIC, payload, self._orders.stop)

    def _take(self, topic: str, payload: bytes, order: Callable[[Mapping[str, Any]], Ordered]) -> None:
        message = read_object(payload)
        facts = {} if message is None else facts_of(message)
        request_id = request_id_in(facts)
        if message is None or request_id is None:
            log.warning("dropped a message on %s: it has no readable request_id", topic)
            return
        # The design document's objects say more about themselves than what they name.
        ordered = order({key: facts[key] for key in NamedRuntime.model_fields if key in facts})
        incident_id, trace = (message.get(key) for key in ("incident_id", "trace"))
        reply = write_message(
            f"{RUNTIME_RESPONSE_PREFIX}{request_id}",
            LLM_ECOSYSTEM,
            {"request_id": request_id, "status": ordered.status, **_outcome(ordered)},
            ts=self._clock.epoch_s(),
            incident_id=incident_id if isinstance(incident_id, str) else None,
            trace=trace if isinstance(trace, str) else None,
        )
        self._bus.publish(f"{RUNTIME_RESPONSE_PREFIX}{request_id}", reply)


def _outcome(ordered: Ordered) -> dict[str, Any]:
    if ordered.problems:
        return {"error": {"code": ordered.problems[0].code, "message": words_of(ordered.problems)}}
    return {"runtime": ordered.runtime}
