"""Clients that keep account: each request ends in an answer, in an error that is said, or it is lost."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

PROMPT = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
DONE = b"data: [DONE]\n\n"
PREDICTED = re.compile(rb'"predicted_n":(\d+)')
TIMEOUT_S = 90.0


class Kind(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    REFUSED = "refused with a code"
    TOLD = "broken off with an error event"
    CUT = "cut off (the connection ended before its time)"
    UNREACHED = "not connected"
    LOST = "lost without a word"


@dataclass(frozen=True, slots=True)
class Ending:
    """What came of one request."""

    kind: Kind
    seconds: float
    first_s: float
    code: str = ""
    tokens: int = 0
    data: bytes = b""
    instance: str = ""
    attempts: str = ""


def a_chat(tokens: int, *, is_stream: bool = False, **more: object) -> dict[str, object]:
    """Ask for exactly so many tokens."""
    asked = {"messages": PROMPT, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, **more}
    body = {name: value for name, value in asked.items() if value is not None}
    return {**body, "stream": True} if is_stream else body


async def ask(web: httpx.AsyncClient, body: Mapping[str, object], on_first: asyncio.Event | None = None) -> Ending:
    """Ask, and say how it ended."""
    begun = time.monotonic()
    first_s, data, head = 0.0, b"", httpx.Headers()
    status = 0
    try:
        async with web.stream("POST", "/v1/chat/completions", json=body) as answer:
            status, head = answer.status_code, answer.headers
            async for piece in answer.aiter_raw():
                first_s = first_s or time.monotonic() - begun
                if on_first is not None:
                    on_first.set()
                data += piece
    except httpx.TimeoutException:
        kind = Kind.LOST
    except httpx.ConnectError:
        kind = Kind.UNREACHED
    except httpx.TransportError:
        kind = Kind.TOLD if b"event: error" in data else Kind.CUT
    else:
        kind = _whole(status, data, is_stream=bool(body.get("stream")))
    seconds = time.monotonic() - begun
    instance, attempts = head.get("x-kloros-instance", ""), head.get("x-kloros-attempts", "")
    return Ending(kind, seconds, first_s, _code(data), _tokens(data), data, instance, attempts)


def _whole(status: int, data: bytes, *, is_stream: bool) -> Kind:
    """Judge an answer that ended as HTTP has it."""
    if status >= 400:
        return Kind.REFUSED if _code(data) or b'"error"' in data else Kind.LOST
    if is_stream:
        return Kind.ANSWERED if data.endswith(DONE) else Kind.LOST
    return Kind.ANSWERED if b'"choices"' in data else Kind.LOST


def _code(data: bytes) -> str:
    at = data.rfind(b'{"error"')
    try:
        error = json.loads(data[at:].strip()) if at >= 0 else {}
    except ValueError:
        return ""
    error = error.get("error")
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def _tokens(data: bytes) -> int:
    found = PREDICTED.findall(data)
    return int(found[-1]) if found else 0


class Tally:
    """What came of many requests."""

    def __init__(self, endings: Iterable[Ending]) -> None:
        self.endings = tuple(endings)
        self.kinds = Counter(ending.kind for ending in self.endings)

    @property
    def answered(self) -> int:
        return self.kinds[Kind.ANSWERED]

    @property
    def lost(self) -> int:
        """Count those that ended without an answer and without being told."""
        return self.kinds[Kind.LOST]

    @property
    def slowest_s(self) -> float:
        return max(ending.seconds for ending in self.endings)

    def only(self, *kinds: Kind) -> bool:
        """Say whether all ended in one of these ways."""
        return set(self.kinds) <= set(kinds)

    def brief(self) -> str:
        """Say how they ended, where more follows."""
        words = {Kind.TOLD: "told", Kind.REFUSED: "refused", Kind.CUT: "cut", Kind.LOST: "lost"}
        return ", ".join(f"{self.kinds[kind]} {words.get(kind, kind)}" for kind in Kind if self.kinds[kind])

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.kinds[kind]} {kind}" for kind in Kind if self.kinds[kind])
        codes = Counter(ending.code for ending in self.endings if ending.code)
        said = f" ({', '.join(f'{count} × {code}' for code, count in sorted(codes.items()))})" if codes else ""
        return f"{len(self.endings)} asked: {kinds}{said}; slowest {self.slowest_s:.1f} s"


def a_web(port: int, *, timeout_s: float = TIMEOUT_S) -> httpx.AsyncClient:
    """Give as many connections as anybody may want."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=timeout_s, limits=limits)


class Crowd:
    """Requests that are under way together."""

    def __init__(self, web: httpx.AsyncClient, bodies: Sequence[Mapping[str, Any]]) -> None:
        self.bodies = bodies
        self.firsts = [asyncio.Event() for _ in bodies]
        pairs = zip(bodies, self.firsts, strict=True)
        self.tasks = [asyncio.create_task(ask(web, body, first)) for body, first in pairs]

    @property
    def begun(self) -> int:
        """Count those that have got their first byte."""
        return sum(first.is_set() for first in self.firsts)

    async def ended(self) -> Tally:
        """Wait for all."""
        return Tally(await asyncio.gather(*self.tasks))

    async def leave(self) -> None:
        """Have all clients go."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def crowd_of(web: httpx.AsyncClient, count: int, *, tokens: int = 4, **more: object) -> Crowd:
    """Ask `count` times at once; each asks for another number of tokens, so that no answer passes for another's."""
    return Crowd(web, [a_chat(tokens + index % 8, **more) for index in range(count)])  # type: ignore[arg-type]  # is_stream among them


def mixed_up(crowd: Crowd, tally: Tally) -> int:
    """Count answers that have another length than was asked for: they are not theirs, or not whole."""
    pairs = zip(crowd.bodies, tally.endings, strict=True)
    return sum(one.kind is Kind.ANSWERED and one.tokens != body["max_tokens"] for body, one in pairs)
