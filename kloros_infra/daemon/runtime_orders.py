"""What operators may have done with instances, whichever way they ask (design document, section 5.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kloros_infra.daemon import http_problems
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.openai import field_problems
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.control import RUNNING, Runtime, Runtimes
from kloros_infra.ir.routing import Upstream
from kloros_infra.router.events import StartAsked, StopAsked
from kloros_infra.router.instance import State
from kloros_infra.router.named_instance import named_instance, not_active
from kloros_infra.router.unserved import card_closed
from kloros_infra.router.views import InstanceView

Name = Annotated[str, Field(min_length=1, max_length=200)]
DOWN = (State.STOPPED, State.FAILED)
# The design document's word for one that serves; the others are the states' own.
WORDS = {State.READY: RUNNING, State.SUSPECT: "unhealthy"}


class NamedRuntime(BaseModel):
    """Which instance is meant; the design document calls an instance's name its profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: Name | None = None
    model_id: Name | None = None


class Ordered(NamedTuple):
    """What came of an order, as HTTP says it: 200 is done, 202 takes its time; else `problems` says why not."""

    status: int
    runtime: Runtime | None = None
    problems: Problems = ()


class RuntimeOrders:
    """Passes orders on to the desk; what takes time is begun, and seen by asking for the health."""

    def __init__(self, desk: Desk, epoch_s: Callable[[], float] = time.time) -> None:
        self._desk = desk
        self._epoch_s = epoch_s

    def health(self) -> Runtimes:
        """Say how the instances of the active profile are, and those of others that still run."""
        listed = (one for one in self._desk.overview().instances if one.is_active or _is_there(one))
        return Runtimes(gpu_profile=self._desk.profile, runtimes=tuple(map(self._runtime, listed)))

    def start(self, fields: Mapping[str, Any]) -> Ordered:
        """Have an instance of the active profile run."""
        found = self._meant(fields)
        if not isinstance(found, Upstream):
            return found
        if found.profile != self._desk.profile:
            return Ordered(409, problems=(not_active(found, self._desk.profile),))
        if (seen := self._seen(found.instance)).is_barred:
            return Ordered(409, problems=(card_closed(found.instance, seen.reason),))
        return self._order(StartAsked(found.instance), done=(State.READY,))

    def stop(self, fields: Mapping[str, Any]) -> Ordered:
        """Have an instance stop once its requests are done."""
        found = self._meant(fields)
        return self._order(StopAsked(found.instance), done=DOWN) if isinstance(found, Upstream) else found

    def _meant(self, fields: Mapping[str, Any]) -> Upstream | Ordered:
        try:
            asked = NamedRuntime.model_validate(fields)
        except ValidationError as error:
            return Ordered(400, problems=field_problems(error))
        if asked.profile is None and asked.model_id is None:
            problem = http_problems.bad_field("profile", "it names the instance that is meant, and is missing")
            return Ordered(400, problems=(problem,))
        desk = self._desk
        found = named_instance(desk.table, desk.profile, profile=asked.profile, model=asked.model_id)
        return Ordered(404, problems=(found,)) if isinstance(found, Diagnostic) else found

    def _order(self, event: StartAsked | StopAsked, *, done: tuple[State, ...]) -> Ordered:
        self._desk.tell(event)
        found = self._seen(event.instance)
        return Ordered(200 if found.state in done else 202, self._runtime(found))

    def _seen(self, instance: str) -> InstanceView:
        return next(one for one in self._desk.overview().instances if one.name == instance)

    def _runtime(self, one: InstanceView) -> Runtime:
        used_at = None if one.used_s_ago is None else self._epoch_s() - one.used_s_ago
        return Runtime(
            profile=one.name,
            status=WORDS.get(one.state, one.state.value),
            pid=one.pid or None,
            port=one.port,
            uptime_seconds=round(one.up_s),
            last_request_at=None if used_at is None else _timestamp(used_at),
            model_id=one.model_id,
            gpu_profile=one.profile,
            unit=one.unit,
            active_requests=one.in_flight,
            queued_requests=one.queued,
            stops_in_seconds=None if one.stops_in_s is None else round(one.stops_in_s),
            restarts=one.restarts,
            reason=one.reason,
            last_lines=one.last_lines,
            stopped_for=one.stopped_for,
        )


def _is_there(one: InstanceView) -> bool:
    return one.state not in (*DOWN, State.UNKNOWN)


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
