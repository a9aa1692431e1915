"""ZMTP 3: what ZeroMQ speaks on a stream (rfc.zeromq.org/spec/23 and /37), without I/O and with bounds on everything.

A connection begins with a greeting and a READY command of each side. Then come frames: a byte of flags, a length of
one byte or eight, and the body. The frames of one message follow each other, all but the last marked MORE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4
LONGEST_SHORT = 255
GREETING_BYTES = 64
MAX_COMMAND_BYTES = 1024
"""libzmq's own commands are shorter than 100 bytes; a READY carries names and types."""
# Version 3.0, so that libzmq sends subscriptions as messages, which all its releases since 4.0 do.
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
SUBSCRIBE, CANCEL = b"\x01", b"\x00"

Message = tuple[bytes, int, int]
"""A whole message in a block of bytes: its first frame, where it begins, where it ends."""


class ProtocolError(Exception):
    """The peer does not speak ZMTP 3 as it should; its connection is of no use."""


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """How large a message may be."""

    frame_bytes: int
    message_bytes: int
    frames: int


def frame(flags: int, body: bytes) -> bytes:
    """Write one frame."""
    if len(body) > LONGEST_SHORT:
        return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body
    return bytes((flags, len(body))) + body


def message(*bodies: bytes) -> bytes:
    """Write one message of one frame or more."""
    return b"".join(frame(MORE, body) for body in bodies[:-1]) + frame(0, bodies[-1])


def ready(socket_type: bytes) -> bytes:
    """Write the READY command of a socket without a name."""
    return frame(COMMAND, b"\x05READY\x0bSocket-Type" + len(socket_type).to_bytes(4, "big") + socket_type)


def pong(command: bytes) -> bytes | None:
    """Answer a PING; None for any other command, which is no business of ours."""
    if not command.startswith(b"\x04PING"):
        return None
    return frame(COMMAND, b"\x04PONG" + command[7:23])


def first_frames(block: bytes, limit_messages: int, limit_bytes: int) -> tuple[int, int]:
    """Say how many of a block's messages stay within both limits, and where the last of them ends."""
    count = taken = position = 0
    while position < len(block) and count < limit_messages:
        flags, _, position = _header(block, position)
        if flags & MORE:
            continue
        if position > limit_bytes:
            break
        count, taken = count + 1, position
    return count, taken


def _header(data: bytes | bytearray, position: int) -> tuple[int, int, int]:
    """Read a frame's flags, where its body begins and where it ends; the header must be there."""
    flags = data[position]
    if flags & LONG:
        body = position + 9
        return flags, body, body + int.from_bytes(data[position + 1 : body], "big")
    return flags, position + 2, position + 2 + data[position + 1]


class Handshake:
    """A peer's greeting and READY command, as they come in."""

    def __init__(self, allowed: frozenset[bytes]) -> None:
        self._allowed = allowed
        self._held = b""
        self.socket_type = b""

    def feed(self, data: bytes) -> bytes | None:
        """Take what came; give what follows the handshake, None while it is not complete. Raises ProtocolError."""
        held = self._held = self._held + data
        _check_greeting(held)
        if len(held) < GREETING_BYTES + 2:
            return None
        flags = held[GREETING_BYTES]
        if not flags & COMMAND:
            raise ProtocolError("it sent no READY")
        if flags & LONG and len(held) < GREETING_BYTES + 9:
            return None
        _, body, end = _header(held, GREETING_BYTES)
        if end - body > MAX_COMMAND_BYTES:
            raise ProtocolError("its READY is too long")
        if len(held) < end:
            return None
        self.socket_type = _socket_type(held[body:end])
        if self.socket_type not in self._allowed:
            raise ProtocolError(f"its socket is of type {self.socket_type[:16]!r}, which does not belong here")
        self._held = b""
        return held[end:]


def _check_greeting(held: bytes) -> None:
    if not GREETING.startswith(held[:1]) or (len(held) >= 10 and not held[9] & 1):
        raise ProtocolError("it does not speak ZMTP")
    if len(held) > 10 and held[10] < 3:
        raise ProtocolError("it speaks a ZMTP older than 3")
    if len(held) >= 32 and held[12:32].rstrip(b"\0") != b"NULL":
        raise ProtocolError("it wants a security mechanism")


def _socket_type(command: bytes) -> bytes:
    if not command.startswith(b"\x05READY"):
        raise ProtocolError("it sent another command than READY")
    position = 6
    while position < len(command):
        name_end = position + 1 + command[position]
        value = name_end + 4
        end = value + int.from_bytes(command[name_end:value], "big")
        if end > len(command):
            raise ProtocolError("its READY is cut off")
        if command[position + 1 : name_end].lower() == b"socket-type":
            return command[value:end]
        position = end
    return b""


class MessageStream:
    """Cuts what a publisher sends into whole messages; drops those above the limits and goes on after them."""

    def __init__(self, limits: MessageLimits) -> None:
        self._limits = limits
        self._held = bytearray()
        self._needed_bytes = 0
        self._held_has_more = False
        self._is_dropping = False
        self._skipped_bytes = 0
        self._has_more = False
        self.commands: list[bytes] = []
        self.drops: list[str] = []
        """Why messages were dropped since somebody looked."""

    @property
    def held_bytes(self) -> int:
        """Say how much of an incomplete message waits here."""
        return len(self._held)

    @property
    def is_dropping(self) -> bool:
        """Say whether the rest of a message is being passed over."""
        return self._is_dropping

    def feed(self, data: bytes) -> tuple[bytes, list[Message]]:
        """Take what came; give a block of bytes and the messages in it. Raises ProtocolError."""
        if self._held:
            self._held += data
            if len(self._held) < self._needed_bytes:
                return b"", []
            data = bytes(self._held)
            self._held.clear()
        position = self._pass_over(data, 0) if self._is_dropping else 0
        messages: list[Message] = []
        while position < len(data):
            position = self._cut(data, position, messages)
        return data, messages

    def give_up(self, reason: str) -> None:
        """Drop the message of which a part is held, and what is still to come of it."""
        if self._needed_bytes <= len(self._held):
            return  # not even its length is known: there is next to nothing to drop
        self._skipped_bytes = self._needed_bytes - len(self._held)
        self._has_more = self._held_has_more
        self._held = bytearray()
        self._begin_drop(reason)

    def _begin_drop(self, reason: str) -> None:
        self._is_dropping = True
        self.drops.append(reason)

    def _hold(self, data: bytes, start: int, needed_bytes: int, *, has_more: bool) -> int:
        self._held += data[start:]
        self._needed_bytes, self._held_has_more = needed_bytes, has_more
        return len(data)

    def _cut(self, data: bytes, start: int, messages: list[Message]) -> int:  # noqa: C901 - the hot loop, calls cost
        """Add whole messages; give where to go on, the end of the data where the rest is incomplete or dropped."""
        end, position = len(data), start
        limits = self._limits
        largest, frame_limit = min(limits.frame_bytes, limits.message_bytes), limits.frames
        topic: bytes | None = None
        frames = 0
        while position + 1 < end:
            flags = data[position]
            if flags & LONG:
                body = position + 9
                if body > end:
                    break
                after = body + int.from_bytes(data[position + 1 : body], "big")
            else:
                body = position + 2
                after = body + data[position + 1]
            if flags > 3:
                if topic is not None:
                    raise ProtocolError("it sent a command within a message")
                if _is_incomplete_command(flags, after - body, after > end):
                    return self._hold(data, position, after - position, has_more=False)
                self.commands.append(data[body:after])
                start = position = after
                continue
            if after - body > largest or after - start > limits.message_bytes or frames == frame_limit:
                self._begin_drop(self._reason(after - body, frames))
                self._skipped_bytes, self._has_more = after - body, bool(flags & MORE)
                return self._pass_over(data, body)
            if after > end:
                return self._hold(data, start, after - start, has_more=bool(flags & MORE))
            position = after
            if topic is None:
                topic = data[body:after]
            frames += 1
            if not flags & MORE:
                messages.append((topic, start, after))
                start, topic, frames = after, None, 0
        return self._hold(data, start, 0, has_more=False) if start < end else end

    def _reason(self, frame_bytes: int, frames: int) -> str:
        if frames == self._limits.frames:
            return f"more than {frames} frames"
        return f"a frame of {frame_bytes} bytes" if frame_bytes > self._limits.frame_bytes else "too many bytes"

    def _pass_over(self, data: bytes, position: int) -> int:
        """Pass over the rest of a message; give where the next one begins."""
        end = len(data)
        while True:
            step = min(self._skipped_bytes, end - position)
            position += step
            self._skipped_bytes -= step
            if self._skipped_bytes:
                return end
            if not self._has_more:
                self._is_dropping = False
                return position
            position = _past_short_frames(data, position)
            if position > end:
                self._skipped_bytes = position - end
                return end
            if position + 2 > end or (data[position] & LONG and position + 9 > end):
                return self._hold(data, position, 0, has_more=True)
            flags, position, after = _header(data, position)
            if flags > 3:
                raise ProtocolError("it sent a command within a message")
            self._skipped_bytes, self._has_more = after - position, bool(flags & MORE)


def _past_short_frames(data: bytes, position: int) -> int:
    """Pass over short frames with others to follow: what makes messages of very many frames."""
    last = len(data) - 2
    while position <= last and data[position] == MORE:
        position += 2 + data[position + 1]
    return position


def _is_incomplete_command(flags: int, size: int, is_cut: bool) -> bool:
    if flags & ~(LONG | COMMAND) or size > MAX_COMMAND_BYTES:
        raise ProtocolError("it sent a frame that ZMTP does not know")
    return is_cut


class SubscriptionStream:
    """Cuts what a subscriber sends into subscriptions, cancellations and commands; passes over everything else."""

    def __init__(self, max_prefix_bytes: int) -> None:
        self._stream = MessageStream(MessageLimits(max_prefix_bytes + 1, max_prefix_bytes + 16, frames=2))

    def feed(self, data: bytes) -> tuple[list[tuple[bool, bytes]], list[bytes], int]:
        """Give what is subscribed (True) or cancelled (False), other commands, and how many were too long.

        Raises ProtocolError.
        """
        stream = self._stream
        block, messages = stream.feed(data)
        wishes = [
            (body[:1] == SUBSCRIBE, body[1:])
            for body, start, _ in messages
            if body[:1] in (SUBSCRIBE, CANCEL) and not block[start] & MORE
        ]
        others = []
        for command in stream.commands:
            # ZMTP 3.1 has commands for it.
            if command.startswith(b"\x09SUBSCRIBE"):
                wishes.append((True, command[10:]))
            elif command.startswith(b"\x06CANCEL"):
                wishes.append((False, command[7:]))
            else:
                others.append(command)
        stream.commands.clear()
        too_long = len(stream.drops)
        stream.drops.clear()
        return wishes, others, too_long
