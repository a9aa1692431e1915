"""ZMTP without a network: what is cut into messages, what is dropped, and who is no peer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kloros_infra.adapters.zmtp import (
    COMMAND,
    GREETING,
    GREETING_BYTES,
    MORE,
    Handshake,
    MessageLimits,
    MessageStream,
    ProtocolError,
    SubscriptionStream,
    first_frames,
    frame,
    message,
    pong,
    ready,
)

INCOMPLETE_HEADER_BYTES = 8
LIMITS = MessageLimits(frame_bytes=600, message_bytes=1000, frames=4)
ANY_TYPE = frozenset({b"PUB", b"XPUB"})
# Around the limits, and around the length from which a frame has eight bytes for it.
frames = st.lists(st.integers(0, 700).map(lambda size: b"x" * size), min_size=1, max_size=6)


def is_within(bodies: list[bytes]) -> bool:
    encoded = message(*bodies)
    return len(bodies) <= LIMITS.frames and max(map(len, bodies)) <= LIMITS.frame_bytes and len(encoded) <= 1000


def fed(stream: MessageStream, pieces: list[bytes]) -> list[bytes]:
    found = []
    for piece in pieces:
        block, messages = stream.feed(piece)
        found += [block[start:end] for _, start, end in messages]
    return found


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 10_000), max_size=30))
def test_messages_within_the_limits_come_out_whole_however_they_arrive(
    sent: list[list[bytes]], cuts: list[int]
) -> None:
    stream = MessageStream(LIMITS)
    found = fed(stream, in_pieces(b"".join(message(*bodies) for bodies in sent), cuts))
    assert found == [message(*bodies) for bodies in sent if is_within(bodies)]
    assert len(stream.drops) == sum(not is_within(bodies) for bodies in sent)
    assert stream.held_bytes == 0
    assert not stream.is_dropping


@given(frames)
@example([b"x" * 256, b"x" * 256, b"x" * 454, b"x" * 256])
def test_what_is_held_is_bounded(bodies: list[bytes]) -> None:
    stream = MessageStream(LIMITS)
    for piece in in_pieces(message(*bodies), list(range(2000))):
        fed(stream, [piece])
        # Until its last byte is there, the header of the frame that is too much says nothing.
        assert stream.held_bytes <= LIMITS.message_bytes + INCOMPLETE_HEADER_BYTES


def test_the_first_frame_is_the_topic() -> None:
    _, messages = MessageStream(LIMITS).feed(message(b"llm.request", b"{}") + message(b"HEARTBEAT", b""))
    assert [topic for topic, _, _ in messages] == [b"llm.request", b"HEARTBEAT"]


@pytest.mark.parametrize(
    ("bodies", "reason"),
    [
        ([b"topic", b"x" * 601], "a frame of 601 bytes"),
        ([b"x" * 500, b"x" * 500], "too many bytes"),
        ([b"x"] * 5, "more than 4 frames"),
        ([b"x"] * 5000, "more than 4 frames"),
    ],
)
def test_what_is_too_large_is_dropped_with_a_reason(bodies: list[bytes], reason: str) -> None:
    stream = MessageStream(LIMITS)
    assert fed(stream, [message(*bodies) + message(b"topic", b"good")]) == [message(b"topic", b"good")]
    assert stream.drops == [reason]


def test_a_message_given_up_is_passed_over_and_the_next_one_taken() -> None:
    stream = MessageStream(LIMITS)
    whole = message(b"topic", b"x" * 300, b"more")
    assert fed(stream, [whole[:100]]) == []
    stream.give_up("no room")
    assert (stream.held_bytes, stream.is_dropping, stream.drops) == (0, True, ["no room"])
    assert fed(stream, [whole[100:] + message(b"topic", b"good")]) == [message(b"topic", b"good")]


def test_a_header_alone_is_too_little_to_give_up() -> None:
    stream = MessageStream(LIMITS)
    fed(stream, [b"\x00"])
    stream.give_up("no room")
    assert fed(stream, [b"\x01x"]) == [message(b"x")]


def test_commands_between_messages_are_set_apart() -> None:
    stream = MessageStream(LIMITS)
    ping = frame(COMMAND, b"\x04PING\x00\x0acontext")
    data = message(b"a") + ping + message(b"b")
    for pieces in ([data], [data[:8], data[8:]]):
        assert fed(stream, pieces) == [message(b"a"), message(b"b")]
    assert stream.commands == [b"\x04PING\x00\x0acontext"] * 2
    assert pong(stream.commands[0]) == frame(COMMAND, b"\x04PONGcontext")
    assert pong(b"\x05ERROR") is None


@pytest.mark.parametrize(
    "data",
    [
        frame(MORE, b"topic") + frame(COMMAND, b"\x04PING"),
        frame(MORE, b"x") * 5 + frame(COMMAND, b"\x04PING"),
        frame(8, b"reserved"),
        frame(COMMAND, b"x" * 1025),
        b"\x80\x01x",
    ],
)
def test_what_zmtp_does_not_know_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        MessageStream(LIMITS).feed(data)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(0, 9), st.integers(0, 3000))
def test_the_first_messages_of_a_block_are_whole(sizes: list[int], at_most: int, limit_bytes: int) -> None:
    messages = [message(b"t", b"x" * size) for size in sizes]
    count, taken = first_frames(b"".join(messages), at_most, limit_bytes)
    assert taken == sum(map(len, messages[:count])) <= limit_bytes
    assert count <= at_most
    is_full = count == len(messages) or count == at_most
    assert is_full or taken + len(messages[count]) > limit_bytes


def test_a_handshake_may_come_byte_by_byte_and_be_followed_by_messages() -> None:
    handshake = Handshake(ANY_TYPE)
    greeting = GREETING + ready(b"PUB")
    for number in range(len(greeting) - 1):
        assert handshake.feed(greeting[number : number + 1]) is None
    assert handshake.feed(greeting[-1:] + b"rest") == b"rest"
    assert handshake.socket_type == b"PUB"


def test_other_metadata_is_passed_over_and_a_long_command_read() -> None:
    body = b"\x05READY\x08Identity\x00\x00\x00\x01a" + b"\x01x\x00\x00\x01\x00" + b"y" * 256 + ready(b"XPUB")[8:]
    handshake = Handshake(ANY_TYPE)
    data = GREETING + frame(COMMAND, body)
    assert handshake.feed(data[: GREETING_BYTES + 4]) is None
    assert handshake.feed(data[GREETING_BYTES + 4 :]) == b""
    assert handshake.socket_type == b"XPUB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak ZMTP"),
        (b"\xff" + bytes(8) + b"\x00", "does not speak ZMTP"),
        (GREETING[:10] + b"\x01\x00", "older than 3"),
        (GREETING[:12] + b"CURVE".ljust(20, b"\0"), "security mechanism"),
        (GREETING + message(b"no command"), "no READY"),
        (GREETING + frame(COMMAND, b"\x05ERROR\x00"), "another command"),
        (GREETING + frame(COMMAND, b"x" * 1025), "too long"),
        (GREETING + ready(b"SUB"), "SUB"),
        (GREETING + frame(COMMAND, b"\x05READY"), "does not belong here"),
        (GREETING + frame(COMMAND, b"\x05READY\x0bSocket-Type\x00\x00\x00\x09PUB"), "cut off"),
    ],
)
def test_who_is_no_peer_is_told_apart(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        Handshake(ANY_TYPE).feed(data)


def test_subscriptions_are_read_in_both_forms_and_everything_else_passed_over() -> None:
    stream = SubscriptionStream(max_prefix_bytes=16)
    data = (
        message(b"\x01llm.")
        + message(b"\x00llm.")
        + message(b"\x01")
        + message(b"user message")
        + message(b"\x01first", b"of two")
        + message(b"\x01" + b"x" * 17)
        + message(b"")
    )
    assert stream.feed(data) == ([(True, b"llm."), (False, b"llm."), (True, b"")], [], 1)
    commands = frame(COMMAND, b"\x09SUBSCRIBEa") + frame(COMMAND, b"\x06CANCELa") + frame(COMMAND, b"\x04PING\x00\x00")
    assert stream.feed(commands) == ([(True, b"a"), (False, b"a")], [b"\x04PING\x00\x00"], 0)
