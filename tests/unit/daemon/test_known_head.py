"""A head that is known again says what the parser would say, and nothing that the parser refuses is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.daemon.http_framing import HttpLimits, Refusal, Request, RequestReader
from kloros_infra.daemon.known_head import framing_of, known_head
from tests.bad_requests import FRAMING

FIRST = (
    b"POST /api/chat?a=1 HTTP/1.1\r\nHost: localhost\r\nX-Kloros-Purpose: code\r\nAuthorization: Bearer k\r\n"
    b"Origin: http://localhost\r\nContent-Length: %d\r\nAccept: */*\r\n\r\n%b"
)


def a_reader(limits: HttpLimits | None = None, body: bytes = b"{}") -> RequestReader:
    """Begin a connection with a request that came whole."""
    reader = RequestReader(limits or HttpLimits())
    reader.feed(FIRST % (len(body), body))
    assert isinstance(reader.arrivals.popleft(), Request)
    return reader


def fed(data: bytes) -> Request | Refusal:
    reader = RequestReader(HttpLimits())
    reader.feed(data)
    return reader.arrivals[0]


def as_values(request: Request | Refusal | None) -> list[object]:
    assert isinstance(request, Request)
    return [getattr(request, name) for name in Request.__slots__]


@given(st.binary(max_size=300))
def test_a_known_request_is_what_the_parser_reads(body: bytes) -> None:
    data = FIRST % (len(body), body)
    assert as_values(a_reader().whole(data)) == as_values(fed(data))


@given(st.binary(max_size=20), st.integers(0, 260), st.binary(max_size=3))
def test_what_is_changed_is_read_as_the_parser_reads_it_or_left_to_it(body: bytes, at: int, other: bytes) -> None:
    data = FIRST % (len(body), body)
    changed = data[:at] + other + data[at + len(other) :]
    known = a_reader().whole(changed)
    if known is not None:
        assert as_values(known) == as_values(fed(changed))


@pytest.mark.parametrize("name", FRAMING)
def test_bad_framing_is_left_to_the_parser(name: str) -> None:
    reader = a_reader()
    assert reader.whole(FRAMING[name][0]) is None
    reader = RequestReader(HttpLimits())
    reader.feed(FRAMING[name][0])
    assert reader.whole(FRAMING[name][0]) is None


@pytest.mark.parametrize(
    "digits",
    [b"", b"1", b"3", b"+2", b"-2", b"0x2", b" 2", b"2 ", b"2,2", b"2\n", b"00000000002", "²".encode(), b"99999999999"],
)
def test_a_length_that_is_not_plainly_that_of_the_body_is_left_to_the_parser(digits: bytes) -> None:
    before, _, after = (FIRST % (2, b"{}")).partition(b"Content-Length: 2\r\n")
    assert a_reader().whole(before + b"Content-Length: " + digits + b"\r\n" + after) is None


def test_what_is_not_one_whole_request_is_left_to_the_parser() -> None:
    data = FIRST % (2, b"{}")
    for other in (data[:-1], data + data, data + b"\r\n", data[:40], b""):
        assert a_reader().whole(other) is None
    reader = a_reader()
    reader.feed(data[:-1])
    assert reader.whole(b"}") is None
    assert reader.whole(data) is None
    reader.feed(b"}")
    assert reader.whole(data) is None
    reader.feed(data)
    assert reader.whole(data) is not None


def test_a_body_above_the_limit_is_left_to_the_parser() -> None:
    limits = HttpLimits(body_bytes=4)
    assert a_reader(limits).whole(FIRST % (4, b"1234")) is not None
    assert a_reader(limits).whole(FIRST % (5, b"12345")) is None


@pytest.mark.parametrize("line", [b"Connection: close", b"Expect: 100-continue", b"Transfer-Encoding: chunked"])
def test_heads_that_say_more_than_a_length_are_not_remembered(line: bytes) -> None:
    data = FIRST.replace(b"Accept: */*", line) % (2, b"{}")
    reader = RequestReader(HttpLimits())
    reader.feed(data)
    assert reader.whole(data) is None
    assert reader.whole(FIRST % (2, b"{}")) is None


def test_a_request_without_a_body_is_not_remembered() -> None:
    data = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    reader = RequestReader(HttpLimits())
    reader.feed(data)
    assert reader.whole(data) is None


def test_requests_that_came_together_are_not_remembered() -> None:
    reader = RequestReader(HttpLimits())
    reader.feed(FIRST % (2, b"{}") + FIRST % (2, b"[]"))
    assert reader.whole(FIRST % (2, b"{}")) is None


def test_a_head_is_known_by_all_but_its_digits() -> None:
    head = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-length:  12\r\nC: d\r\n\r\n"
    known = known_head(head + b"Content-Length: 1\r\n")
    assert known is not None
    assert framing_of(head.replace(b"12", b"7") + b"1234567", known) == (len(head) - 1, 7)
    assert framing_of(head.replace(b"b", b"c"), known) is None
    assert framing_of(head.replace(b"d", b"e"), known) is None
    assert known_head(head.replace(b"12", b"123456789")) is None
    assert known_head(b"HTTP/1.1 200 OK\r\n\r\n\r\nContent-Length: 1\r\n") is None
