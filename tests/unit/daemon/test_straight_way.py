"""The way of most requests, whole in one read and answered whole in one read, and every other way: the same bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.bridge import Bridge
from kloros_infra.daemon.desk import Desk
from kloros_infra.daemon.http_connection import ClientConnection
from kloros_infra.daemon.http_framing import HttpLimits
from kloros_infra.daemon.http_server import HttpServer
from kloros_infra.daemon.upstream import UpstreamPool
from kloros_infra.daemon.upstream_connection import UpstreamConnection, endpoint_of
from kloros_infra.router.query import Query, Refused
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.fakes.hands import a_desk

CHAT = b'{"model":"small","messages":[{"role":"user","content":"Hello"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\nKeep-Alive: timeout=5\r\n\r\n%b"
JSON = b"application/json; charset=utf-8"


def a_request(body: bytes = CHAT, *, path: bytes = b"/v1/chat/completions", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n" % (path, more, len(body))
    return head + body


def an_answer(body: bytes = b'{"ok":true}', content_type: bytes = JSON) -> bytes:
    return ANSWER % (content_type, len(body), body)


class Wire(asyncio.Transport):
    """A transport that keeps what is written and never blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def take(self) -> bytes:
        taken, self.written = self.written, b""
        return taken

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Way:
    """A client and an upstream, each on one connection of a bridge, without sockets."""

    def __init__(self) -> None:
        table = a_routing_table(a_routed_model("small", an_upstream(parallel=4)))
        self.desk: Desk = a_desk(table, SystemClock())[0]
        self.pool = UpstreamPool()
        self.server = HttpServer(Bridge(self.desk, self.pool), HttpLimits())
        self.server.now = lambda: 1.7e9
        self.client, self.upstream = Wire(), Wire()
        self._client = ClientConnection(self.server)
        self._upstream = UpstreamConnection(self._free, self._free)
        for connection, wire in ((self._client, self.client), (self._upstream, self.upstream)):
            connection.connection_made(wire)
        found = self.desk.find(Query(model="small"))
        assert not isinstance(found, Refused)
        self._upstream.endpoint = endpoint_of(found.choices[0].targets[0])
        self._free(self._upstream)

    def _free(self, _: object) -> None:
        self._upstream.free_since = self._upstream.loop.time()
        self.pool._give_back(self._upstream)

    def ask(self, *pieces: bytes) -> bytes:
        """Send a request; give what reaches the upstream."""
        for piece in pieces:
            self._client.data_received(piece)
        return self.upstream.take()

    def answer(self, *pieces: bytes) -> bytes:
        """Answer it; give what reaches the client."""
        for piece in pieces:
            self._upstream.data_received(piece)
        return self.client.take()

    def close(self) -> None:
        self.desk.close()
        self.server.watch.close()


def on_a_way(test: Callable[[Way], Any]) -> Any:
    async def within() -> Any:
        way = Way()
        try:
            return test(way)
        finally:
            way.close()

    return asyncio.run(within())


REQUESTS = {
    "a chat": a_request(),
    "of an origin": a_request(more=b"Origin: http://localhost\r\n"),
    "with a purpose": a_request(more=b"X-Kloros-Purpose: fast\r\n"),
    "with a key": a_request(more=b"Authorization: Bearer k\r\n"),
    "that is the last": a_request(more=b"Connection: close\r\n"),
    "a completion": a_request(b'{"prompt":"Hello"}', path=b"/v1/completions"),
    "of Ollama's dialect": a_request(CHAT[:-1] + b',"stream":false}', path=b"/api/chat"),
}
ANSWERS = {
    "an answer": an_answer(b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'),
    "an empty one": an_answer(b""),
    "without a kind": an_answer(b"{}", b""),
    "events of a known length": an_answer(b"data: 1\n\ndata: [DONE]\n\n", b"text/event-stream"),
    "events that end too early": an_answer(b"data: 1\n\n", b"text/event-stream"),
}


def without_numbers(said: bytes) -> bytes:
    """Blank what differs from one answer to the next: times in Ollama's dialect, and with them its length."""
    blank = re.sub(rb'"(\w+_duration|created_at)":("[^"]*"|\d+)', rb'"\1":0', said)
    return blank if blank == said else re.sub(rb"Content-Length: \d+", b"", blank)


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("answer_name", ANSWERS)
def test_a_second_time_says_what_the_first_said(request_name: str, answer_name: str) -> None:
    request, answer = REQUESTS[request_name], ANSWERS[answer_name]

    def twice(way: Way) -> None:
        said = []
        for _ in range(3):
            sent = way.ask(request)
            said.append((sent, without_numbers(way.answer(answer)), way.client.is_closed))
            if way.client.is_closed or way.upstream.is_closed:
                return
        assert said[0] == said[1] == said[2]
        assert said[0][0]
        assert said[0][1]

    on_a_way(twice)


@given(st.integers(0, len(REQUESTS["a chat"])), st.integers(0, len(ANSWERS["an answer"])))
def test_however_it_is_cut_the_same_comes_out(at: int, answer_at: int) -> None:
    request, answer = REQUESTS["a chat"], ANSWERS["an answer"]

    def cut(way: Way) -> None:
        whole = way.ask(request), way.answer(answer)
        pieces = [piece for piece in (request[:at], request[at:]) if piece]
        answer_pieces = [piece for piece in (answer[:answer_at], answer[answer_at:]) if piece]
        assert (way.ask(*pieces), way.answer(*answer_pieces)) == whole
        assert (way.ask(request), way.answer(answer)) == whole

    on_a_way(cut)


def test_the_desk_has_nothing_left_to_do_after_either_way() -> None:
    def ask(way: Way) -> None:
        for answer in (ANSWERS["an answer"], ANSWERS["an answer"], ANSWERS["events that end too early"]):
            way.ask(REQUESTS["a chat"])
            way.answer(answer)
        health = way.desk.health()["runtimes"][0]
        assert health["active_requests"] == 0
        assert way.desk.waiting == 0

    on_a_way(ask)


def test_what_is_too_much_for_the_usual_way_is_refused_on_it_as_well() -> None:
    def ask(way: Way) -> None:
        way.ask(REQUESTS["a chat"])
        way.answer(ANSWERS["an answer"])
        for body, code in (
            (b'{"messages":[{"role":"user","content":"a","content":"b"}]}', b"KI8"),
            (b'{"messages":[]}', b"messages"),
            (CHAT[:-1] + b',"n_keep":1}', b"n_keep"),
            (b'{"messages":NaN}', b"KI8"),
        ):
            assert way.ask(a_request(body)) == b""
            said = way.client.take()
            assert said.startswith(b"HTTP/1.1 400 ")
            assert code in said

    on_a_way(ask)
