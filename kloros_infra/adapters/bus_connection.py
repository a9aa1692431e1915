"""A publisher's or a subscriber's connection to the proxy: its socket, what waits to be sent, and its counters."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kloros_infra.adapters.bus_board import Board, Dropped
from kloros_infra.adapters.zmtp import (
    GREETING,
    Handshake,
    first_frames,
    pong,
    ready,
)
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES

MOST_READ_BYTES, LEAST_READ_BYTES = 65_536, 4_096
BLOCKS_AT_ONCE = 64
REST_S = 0.02
"""Who asks for too much is not heard for so long each time: TCP then holds it back, and the others are served."""


@dataclass(frozen=True, slots=True)
class BusLimits:
    """How much the proxy holds, altogether and for each peer."""

    connections: int = 2048
    subscriptions: int = 65_536
    subscriptions_each: int = 8_192
    prefix_bytes: int = 512
    frames: int = 1024
    frame_bytes: int = MAX_PAYLOAD_BYTES
    message_bytes: int = MAX_PAYLOAD_BYTES + 65_536
    # KLoROS's own proxy and publishers use 1000 on every side.
    queued_messages: int = 1000
    queued_bytes: int = 4 * MAX_PAYLOAD_BYTES
    held_bytes: int = 96 * 2**20
    handshake_s: float = 10.0


@dataclass(slots=True)
class Held:
    """How many bytes wait in all connections together, for memory has a bound."""

    limit_bytes: int
    now_bytes: int = 0

    def room(self) -> int:
        """Say how many more may wait."""
        return max(0, self.limit_bytes - self.now_bytes)


class Poller(Protocol):
    """What a connection needs of epoll."""

    def modify(self, fd: int, eventmask: int) -> None:
        """Wait for other events."""
        ...


@dataclass(slots=True)
class Shared:
    """What all connections of a proxy have in common."""

    board: Board
    limits: BusLimits
    held: Held
    poller: Poller
    clock: Callable[[], float]
    say: Callable[[str], None]
    status: Callable[[], bytes]
    status_topic: bytes
    unsent: list[Connection] = field(default_factory=list)
    restless: set[Connection] = field(default_factory=set)
    """Those to be looked at again soon: not joined yet, or with drops that nobody was told of."""
    resting: deque[Connection] = field(default_factory=deque)
    """Those that are not heard for a moment, the first to be heard again first."""
    watching: set[Connection] = field(default_factory=set)
    """Publishers of the kind that wants to see subscriptions (XPUB)."""


class Connection:
    """One connected socket. What cannot be sent at once waits, up to a limit; beyond it is dropped and counted."""

    side: str
    own_type: bytes
    allowed: frozenset[bytes]

    def __init__(self, connected: socket.socket, address: str, shared: Shared) -> None:
        self.socket, self.address, self.shared = connected, address, shared
        self.since_s = shared.clock()
        self.messages = self.byte_count = 0
        self.messages_dropped = self.unreported_drops = 0
        self.is_closed = False
        self._handshake: Handshake | None = Handshake(self.allowed)
        self._blocks: deque[tuple[bytes, int]] = deque()
        self._offset = 0
        self._is_blocked = self._is_resting = False
        self.rests_until_s = 0.0
        self.queued_messages = self.queued_bytes = 0
        self._read_bytes = MOST_READ_BYTES
        shared.restless.add(self)
        self._put(GREETING + ready(self.own_type))

    @property
    def kind(self) -> str:
        """Name its socket's type; empty while it has not said."""
        return "" if self._handshake else self._socket_type

    @property
    def is_joined(self) -> bool:
        """Say whether the handshake is done."""
        return self._handshake is None

    def on_readable(self) -> bool:
        """Read once; say whether the peer is still there. Raises OSError and ProtocolError."""
        try:
            data = self.socket.recv(self._read_bytes)
        except BlockingIOError:
            return True
        if not data:
            return False
        if self._handshake is not None:
            rest = self._handshake.feed(data)
            if rest is None:
                return True
            self._socket_type = self._handshake.socket_type.decode()
            self._handshake = None
            self.shared.say(f"connected: {self}")
            self.begin()
            data = rest
        if data:
            self.read(data)
        return True

    def begin(self) -> None:
        """Do what the end of the handshake asks for."""

    def read(self, data: bytes) -> None:
        """Understand what came."""
        raise NotImplementedError

    def report(self) -> None:
        """Say what it lost since this was said last, not for each message; have rest where there is no more to say."""
        if self.unreported_drops:
            self.shared.say(f"dropped: {self.unreported_drops} for {self}: it does not keep up")
            self.unreported_drops = 0
        if self.is_joined:
            self.shared.restless.discard(self)

    def leave(self) -> None:
        """Close the socket and give back what is held."""
        self.is_closed = True
        self.shared.restless.discard(self)
        self.shared.held.now_bytes -= self.queued_bytes
        self._blocks.clear()
        self.queued_messages = self.queued_bytes = 0
        self.socket.close()

    def take(self, block: bytes, count: int) -> Dropped | None:
        """Send messages as soon as may be; say what had to be dropped."""
        if self._is_blocked:
            return self._queue(block, count)
        self.messages += count
        self.byte_count += len(block)
        self._put(block, count)
        return None

    def _put(self, block: bytes, count: int = 0) -> None:
        if not self._blocks:
            self.shared.unsent.append(self)
        self._blocks.append((block, count))

    def _queue(self, block: bytes, count: int) -> Dropped | None:
        limits = self.shared.limits
        free_messages = limits.queued_messages - self.queued_messages
        # No peer has more than is left for the others, so something always is, however many do not keep up.
        free_bytes = min(limits.queued_bytes, self.shared.held.room()) - self.queued_bytes
        kept, kept_bytes = count, len(block)
        if kept > free_messages or kept_bytes > free_bytes:
            kept, kept_bytes = first_frames(block, free_messages, free_bytes)
        if kept:
            self._blocks.append((block[:kept_bytes], kept))
            self._hold(kept_bytes, kept)
            self.messages += kept
            self.byte_count += kept_bytes
        if kept == count:
            return None
        self.messages_dropped += count - kept
        self.unreported_drops += count - kept
        self.shared.restless.add(self)
        return Dropped(count - kept, len(block) - kept_bytes)

    def _hold(self, byte_count: int, count: int) -> None:
        self.queued_bytes += byte_count
        self.queued_messages += count
        self.shared.held.now_bytes += byte_count

    def flush(self) -> None:
        """Send what waits, as far as the peer takes it. Raises OSError."""
        was_blocked = self._is_blocked
        while self._blocks:
            batch = [self._blocks[number][0] for number in range(min(BLOCKS_AT_ONCE, len(self._blocks)))]
            wanted = sum(map(len, batch)) - self._offset
            sent = self._send(batch)
            self._count_sent(sent)
            if sent < wanted:
                break
        self._is_blocked = bool(self._blocks)
        if self._is_blocked and not was_blocked:
            for block, count in self._blocks:
                self._hold(len(block), count)
        if self._is_blocked != was_blocked:
            self._wait_for_events()

    def _wait_for_events(self) -> None:
        reading = 0 if self._is_resting else select.EPOLLIN
        self.shared.poller.modify(self.socket.fileno(), reading | (select.EPOLLOUT if self._is_blocked else 0))

    def rest(self) -> None:
        """Hear nothing of it for a moment."""
        if not self._is_resting:
            self._is_resting = True
            self.rests_until_s = self.shared.clock() + REST_S
            self.shared.resting.append(self)
            self._wait_for_events()

    def hear_again(self) -> None:
        """Go on after a rest."""
        self._is_resting = False
        if not self.is_closed:
            self._wait_for_events()

    def _send(self, batch: list[bytes]) -> int:
        try:
            if self._offset:
                first, *others = batch
                return self.socket.sendmsg([memoryview(first)[self._offset :], *others])
            return self.socket.send(batch[0]) if len(batch) == 1 else self.socket.sendmsg(batch)
        except BlockingIOError:
            return 0

    def _count_sent(self, sent: int) -> None:
        sent += self._offset
        while self._blocks and sent >= len(self._blocks[0][0]):
            block, count = self._blocks.popleft()
            sent -= len(block)
            if self._is_blocked:
                self._hold(-len(block), -count)
        self._offset = sent

    def tell(self, block: bytes) -> None:
        """Send what is no message: a heartbeat's answer, a subscription; left out where there is no room for it."""
        if not self._is_blocked:
            self._put(block)
        elif len(block) <= self.shared.held.room():
            self._blocks.append((block, 0))
            self._hold(len(block), 0)

    def answer(self, commands: list[bytes]) -> None:
        """Answer heartbeats."""
        for command in commands:
            reply = pong(command)
            if reply is not None:
                self.tell(reply)

    def __str__(self) -> str:
        return f"{self.side} {self.address}" + (f" ({self.kind})" if self.kind else "")
