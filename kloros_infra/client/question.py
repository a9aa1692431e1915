"""One question that waits for its answer, and the answer's pieces put in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from kloros_infra.client.errors import LlmError, RefusedError


class Sink(Protocol):
    """Where an answer goes; after `on_reply` or `on_error` nothing more comes."""

    def on_delta(self, text: str) -> None:
        """Take in the next piece of a streamed answer."""
        ...

    def on_reply(self, facts: Mapping[str, Any]) -> None:
        """Take in the whole reply."""
        ...

    def on_error(self, error: LlmError) -> None:
        """Take in that there will be no reply."""
        ...


class Question:
    """What was asked, when it is sent again, and what has come of the answer."""

    __slots__ = (
        "_has_gap",
        "_next_seq",
        "_router",
        "_said",
        "deadline",
        "facts",
        "link",
        "pause_s",
        "request_id",
        "send_at",
        "sink",
        "timeout_s",
    )

    def __init__(self, request_id: str, facts: str, sink: Sink, *, now: float, timeout_s: float) -> None:
        self.facts = facts
        self.request_id = request_id
        self.sink = sink
        self.timeout_s = timeout_s
        self.deadline = now + timeout_s
        self.link: object = None
        """The link that it was sent over last."""
        self.send_at = now
        self.pause_s = 0.0
        self._said: list[str] = []
        self._next_seq = 0
        self._router: object = None
        self._has_gap = False

    @property
    def said(self) -> str:
        """Give what was passed on of a streamed answer."""
        return "".join(self._said)

    def take_chunk(self, facts: Mapping[str, Any]) -> None:
        """Pass on the next piece; after one that was lost the rest waits for the whole answer."""
        seq, delta, router = facts.get("seq"), facts.get("delta"), facts.get("router")
        if self._router is None:
            self._router = router
        if router != self._router or not isinstance(seq, int) or seq > self._next_seq:
            self._has_gap = True
        if self._has_gap or seq != self._next_seq or not isinstance(delta, str):
            return
        self._next_seq += 1
        self._say(delta)

    def take_reply(self, facts: Mapping[str, Any]) -> None:
        """Pass on what is left of a streamed answer, and then the whole reply."""
        if self._said or "seq" in facts:
            metadata = facts.get("metadata")
            partial = metadata.get("partial") if isinstance(metadata, dict) else None
            whole = facts.get("response") or partial or ""
            said = self.said
            if isinstance(whole, str) and whole.startswith(said):
                self._say(whole[len(said) :])
            elif self._has_gap and facts.get("success"):
                self.sink.on_error(_begun_anew(said))
                return
        self.sink.on_reply(facts)

    def _say(self, text: str) -> None:
        if text:
            self._said.append(text)
            self.sink.on_delta(text)


def _begun_anew(said: str) -> RefusedError:
    return RefusedError(
        "KI854",
        "The router restarted while it streamed, and the answer that it then gave begins otherwise.",
        hint="Ask again; `partial` has what had come by then.",
        is_temporary=True,
        partial=said,
    )
