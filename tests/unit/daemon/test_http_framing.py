"""Reading requests strictly: every bad one is refused with its status, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.http_framing import HttpLimits, Phase, Refusal, Request, RequestReader, ResponseHeads, chunk
from tests.bad_requests import FRAMING

GET = b"GET /v1/models?x=1 HTTP/1.1\r\nHost: 127.0.0.1:11434\r\n\r\n"
POST = b"POST /api/chat HTTP/1.1\r\nHost: [::1]\r\nX-Kloros-Purpose: code\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"POST /x HTTP/1.1\r\nHost: LOCALHOST:1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-T: t\r\n\r\n"
)


def read(*parts: bytes, limits: HttpLimits | None = None) -> list[Request | Refusal]:
    reader = RequestReader(limits or HttpLimits())
    for part in parts:
        reader.feed(part)
    return list(reader.arrivals)


@pytest.mark.parametrize("name", FRAMING)
def test_bad_framing_is_refused(name: str) -> None:
    data, status = FRAMING[name]
    arrivals = read(data)
    assert isinstance(arrivals[-1], Refusal), arrivals
    assert arrivals[-1].status == status
    assert not [arrival for arrival in arrivals if isinstance(arrival, Request)]


@pytest.mark.parametrize("name", FRAMING)
def test_bad_framing_is_refused_byte_by_byte(name: str) -> None:
    data, status = FRAMING[name]
    refusal = read(*(data[at : at + 1] for at in range(len(data))))[-1]
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_good_requests_are_read() -> None:
    first, second, third = read(GET + POST + CHUNKED)
    assert isinstance(first, Request)
    assert (first.method, first.path, first.body, first.is_persistent) == ("GET", b"/v1/models", b"", True)
    assert isinstance(second, Request)
    assert (second.method, second.body, second.purpose) == ("POST", b"{}", b"code")
    assert isinstance(third, Request)
    assert third.body == b"{}"


@given(st.lists(st.integers(0, len(GET + POST + CHUNKED)), max_size=8))
def test_requests_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    data = GET + POST + CHUNKED
    edges = [0, *sorted(cuts), len(data)]
    parts = [data[start:end] for start, end in pairwise(edges)]
    bodies = [arrival.body for arrival in read(*parts) if isinstance(arrival, Request)]
    assert bodies == [b"", b"{}", b"{}"]


def test_the_target_may_be_a_whole_address() -> None:
    (request,) = read(
        b"GET http://localhost:1/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n".replace(
            b"evil.example", b"localhost"
        )
    )
    assert isinstance(request, Request)
    assert request.path == b"/v1/models"


def test_listed_hosts_and_loopback_origins_are_let_in() -> None:
    limits = HttpLimits(hosts=frozenset({"kloros.lan"}))
    data = b"GET / HTTP/1.1\r\nHost: Kloros.lan:8080\r\nOrigin: http://127.0.0.1:3000\r\n\r\n"
    (request,) = read(data, limits=limits)
    assert isinstance(request, Request)
    assert request.origin == b"http://127.0.0.1:3000"


def test_a_connection_that_asks_to_close_is_not_persistent() -> None:
    (request,) = read(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert isinstance(request, Request)
    assert not request.is_persistent


def test_nothing_is_read_after_a_refusal() -> None:
    arrivals = read(FRAMING["no Host"][0], GET)
    assert len(arrivals) == 1


def test_chunked_bodies_have_the_same_limit() -> None:
    limits = HttpLimits(body_bytes=10)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    refusal = read(head, *(b"4\r\nabcd\r\n" for _ in range(3)), limits=limits)[-1]
    assert isinstance(refusal, Refusal)
    assert refusal.status == 413


@pytest.mark.parametrize("endless", [b"a" * 1000, b": " + b"a" * 998], ids=["name", "value"])
def test_an_endless_head_is_bounded(endless: bytes) -> None:
    reader = RequestReader(HttpLimits(head_bytes=20_000))
    reader.feed(b"GET / HTTP/1.1\r\nHost: localhost\r\nX")
    for _ in range(30):
        reader.feed(endless)
    assert isinstance(reader.arrivals[-1], Refusal)
    assert reader.arrivals[-1].status == 431


def test_large_requests_in_a_row_are_not_taken_for_an_endless_head() -> None:
    data = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000
    parts = [(data * 10)[at : at + 65536] for at in range(0, len(data) * 10, 65536)]
    assert all(isinstance(arrival, Request) for arrival in read(*parts, limits=HttpLimits(head_bytes=20_000)))


def test_an_endless_trailer_is_bounded() -> None:
    reader = RequestReader(HttpLimits(head_bytes=20_000))
    reader.feed(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: ")
    for _ in range(30):
        reader.feed(b"a" * 1000)
    assert isinstance(reader.arrivals[-1], Refusal)
    assert reader.arrivals[-1].status == 431


def test_a_slow_request_is_refused_by_its_phase() -> None:
    reader = RequestReader(HttpLimits())
    reader.feed(b"POST / HTTP/1.1\r\n")
    assert reader.phase is Phase.HEAD
    reader.refuse_slow()
    assert isinstance(reader.arrivals[0], Refusal)
    assert (reader.arrivals[0].status, reader.arrivals[0].problem.code) == (408, "KI832")
    reader = RequestReader(HttpLimits())
    reader.feed(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\na")
    assert (reader.phase, reader.wants_continue) == (Phase.BODY, True)
    reader.refuse_slow()
    assert isinstance(reader.arrivals[0], Refusal)
    assert "body" in reader.arrivals[0].problem.detail


def test_heads_have_a_date_and_a_length() -> None:
    heads = ResponseHeads()
    head = heads.head(200, b"text/plain", 2, now=784111777.5, extra=b"X-A: b\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 2\r\nX-A: b\r\n\r\n"
    )
    head = heads.head(299, b"", None, now=784111778.0)
    assert head == b"HTTP/1.1 299 \r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_an_empty_chunk_is_not_written() -> None:
    assert chunk(b"") == b""
    assert chunk(b"a" * 17) == b"11\r\n" + b"a" * 17 + b"\r\n"
