"""One request of the bus on its way: it waits in line at the desk, is sent to a target, and comes back as an outcome.

Called back by desk and target, so that a request costs neither a task nor a timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kloros_infra.daemon.bus_reply import Failed, Outcome, Sent, Served
from kloros_infra.daemon.deadlines import DeadlineWatch
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_problems import deadline_passed as was_answering
from kloros_infra.daemon.http_problems import with_reason
from kloros_infra.daemon.ports import Call, Completion, UpstreamError, Upstreams
from kloros_infra.daemon.request_problems import deadline_passed
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.messages import LlmRequest
from kloros_infra.ir.routing import RoutedPersona
from kloros_infra.router import events
from kloros_infra.router.effects import Refuse, Send
from kloros_infra.router.events import Ended
from kloros_infra.router.events import Outcome as Ending
from kloros_infra.router.persona import FORMS, merge_persona
from kloros_infra.router.thinking import Speech

SWEEP_S = 0.05


class Waiter(Protocol):
    """Whoever passes the answer on."""

    def on_delta(self, text: str) -> None:
        """Pass on a piece of the answer, where pieces are wanted."""
        ...

    def on_outcome(self, outcome: Outcome) -> None:
        """Pass on the whole answer, or why there is none; nothing more comes."""
        ...


@dataclass(slots=True, eq=False)
class BusMeans:
    """What answering needs of the router."""

    desk: Desk
    upstreams: Upstreams
    watch: DeadlineWatch[BusRequest]


class BusRequest:
    """Asks the desk and then a target; `deadline` is on the loop's clock."""

    __slots__ = (
        "_asked_at",
        "_attempts",
        "_call",
        "_failed",
        "_has_begun",
        "_is_over",
        "_is_stream",
        "_limit_s",
        "_means",
        "_request",
        "_said",
        "_send",
        "_sent_at",
        "_speech",
        "_told",
        "_waiter",
        "asked",
        "deadline",
    )

    def __init__(
        self, means: BusMeans, request: LlmRequest, asked: events.Asked, waiter: Waiter, *, limit_s: float
    ) -> None:
        self.asked = asked
        self._means = means
        self._request = request
        self._waiter = waiter
        self._limit_s = limit_s
        self._asked_at = self._sent_at = asyncio.get_running_loop().time()
        self.deadline = self._asked_at + limit_s
        self._is_stream = request.stream
        self._call: Call | None = None
        self._send: Send | None = None
        self._failed: Failed | None = None
        self._said: list[str] | None = None
        self._told: list[str] = []
        self._speech: Speech | None = Speech() if request.stream else None
        self._attempts = 0
        self._has_begun = self._is_over = False

    @property
    def attempts(self) -> int:
        """Say how many targets were asked."""
        return self._attempts

    def start(self) -> None:
        """Take a place in line; the outcome may come before this returns."""
        self._means.watch.add(self)
        self._means.desk.ask(self.asked, self)

    def cancel(self, problem: Diagnostic, *, is_temporary: bool) -> None:
        """Stop, and say why."""
        self._leave(Failed(problem, is_temporary=is_temporary, sent=self._who()))

    def expire(self, _now: float) -> None:
        """Stop: the time that whoever asked allows is over, which says nothing about the target."""
        if self._send is None or self._call is None:
            problem = deadline_passed(self._limit_s)
        else:
            problem = was_answering(self._send.target, self._limit_s)
        self.cancel(problem, is_temporary=True)

    def put_off(self, lag_s: float, now: float) -> None:
        """Allow no more than before, as the clock of whoever asked went on; what has come meanwhile is heard first."""

    # The desk's side.

    def on_send(self, send: Send) -> None:
        """Ask a target; this may come again when one has failed."""
        if self._is_stream and send.can_continue and self._said is None:
            self._said = []
        self._ask(send, _body(self._request, send.persona))

    def on_continue(self, send: Send) -> None:
        """Ask a target to go on where the answer broke off."""
        body = self._continued(send.persona)
        if body is None:
            self._give_up()
        else:
            self._ask(send, body)

    def on_refused(self, refuse: Refuse) -> None:
        """Pass on that nobody can serve it; what the last target came to says more than that none is left."""
        refused = Failed(refuse.problem, refuse.is_temporary, self._who(), refuse.retry_after_s, refuse.position)
        if self._failed is None:
            self._finish(refused)
        else:
            self._finish(self._failed._replace(retry_after_s=refuse.retry_after_s, position=refuse.position))

    # The target's side.

    def on_delta(self, text: str, reasoning: str) -> None:
        """Pass a piece on, where pieces are wanted."""
        if self._speech is None:
            return
        if self._said is not None:
            self._said.append(text)
            if reasoning:
                self._said = None
        self._say(self._speech.feed(text))

    def on_completion(self, completion: Completion) -> None:
        """Pass on the whole answer."""
        self._call = None
        sent = self._who()
        self._means.desk.served(self.asked.id)
        if sent is None or self._is_over:
            return
        if self._speech is not None:
            self._say(self._speech.rest())
        if self._said:  # another target may have begun it
            completion = replace(completion, text="".join(self._said))
        self._finish(Served(sent, completion, self._sent_at - self._asked_at))

    def on_failure(self, error: UpstreamError) -> None:
        """Have the desk say how it goes on."""
        self._call = None
        desk, id, send = self._means.desk, self.asked.id, self._send
        is_final = error.outcome is Ending.REFUSED
        problem = error.problem
        if send is not None:
            problem = with_reason(problem, send.target, desk.why_stopped(send.target))
        self._failed = Failed(problem, not is_final, self._who(), error.retry_after_s)
        if is_final:
            desk.ended(Ended(id, Ending.REFUSED))
            self._finish(self._failed)
            return
        if error.outcome is Ending.LOADING and send is not None:
            desk.found_loading(send.target)
        if not desk.failed(Ended(id, error.outcome, error.retry_after_s), has_begun=self._has_begun):
            self._finish(self._failed)

    # Own steps.

    def _ask(self, send: Send, body: Mapping[str, Any]) -> None:
        if self._is_over:
            return
        if self._attempts == 0:
            self._sent_at = asyncio.get_running_loop().time()
        self._attempts += 1
        self._send = send
        if self._speech is not None and not self._has_begun:
            self._speech, self._said = Speech(), None if self._said is None else []
        call = self._means.upstreams.chat(send, body, self)
        if isinstance(call, UpstreamError):
            self.on_failure(call)
        elif not self._is_over and self._send is send:
            self._call = call

    def _say(self, text: str) -> None:
        if not text or self._is_over:
            return
        if not self._has_begun:
            self._has_begun = True
            self._means.desk.began(self.asked.id)
        self._told.append(text)
        self._waiter.on_delta(text)

    def _continued(self, persona: RoutedPersona | None) -> dict[str, Any] | None:
        """Write the request that goes on from what was said; None where it was more than text, or must have a form."""
        body = _body(self._request, persona)
        if self._said is None or any(body.get(form) for form in FORMS):
            return None
        body["messages"] = [*body["messages"], {"role": "assistant", "content": "".join(self._said)}]
        if "max_tokens" in body:
            body["max_tokens"] = max(1, body["max_tokens"] - sum(map(bool, self._said)))
        return body

    def _give_up(self) -> None:
        failed = self._failed or Failed(deadline_passed(self._limit_s), True, self._who())
        self._leave(failed)

    def _leave(self, failed: Failed) -> None:
        if self._is_over:
            return
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._means.desk.left(self.asked.id)
        self._finish(failed)

    def _finish(self, outcome: Outcome) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._means.watch.forget(self)
        if self._told and isinstance(outcome, Failed):
            outcome = outcome._replace(partial="".join(self._told))
        self._waiter.on_outcome(outcome)

    def _who(self) -> Sent | None:
        return None if self._send is None else Sent(self._send, self._means.desk.profile)


def _body(request: LlmRequest, persona: RoutedPersona | None) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [{"role": turn.role, "content": turn.content} for turn in request.prompt]}
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if persona is not None:
        body = merge_persona(body, persona)
        # A reply carries text alone: the call of a tool would be lost on the way.
        body.pop("tools", None)
    return body
