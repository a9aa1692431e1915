"""The two kinds of peers of the ChemBus proxy: what a publisher's and a subscriber's bytes mean."""

from __future__ import annotations

import socket

from kloros_infra.adapters.bus_board import Answer
from kloros_infra.adapters.bus_connection import LEAST_READ_BYTES, MOST_READ_BYTES, Connection, Shared
from kloros_infra.adapters.zmtp import CANCEL, SUBSCRIBE, MessageLimits, MessageStream, SubscriptionStream, message

MESSAGES_A_TURN = 256
"""A turn of the loop handles about so many messages of one peer: the others wait no longer than that takes."""


class Publisher(Connection):
    """Who publishes. It is asked for everything: a new subscriber then waits for no publisher to be told."""

    side = "publisher"
    own_type = b"XSUB"
    allowed = frozenset({b"PUB", b"XPUB"})

    def __init__(self, connected: socket.socket, address: str, shared: Shared) -> None:
        limits = shared.limits
        self._stream = MessageStream(MessageLimits(limits.frame_bytes, limits.message_bytes, limits.frames))
        self._held_bytes = 0
        super().__init__(connected, address, shared)

    def begin(self) -> None:
        """Subscribe to everything, and tell an XPUB who subscribed to what."""
        self.tell(message(SUBSCRIBE))
        if self.kind == "XPUB":
            self.shared.watching.add(self)
            known = self.shared.board.subscriptions.prefixes()
            self.tell(b"".join(message(SUBSCRIBE + prefix) for prefix in known))

    def read(self, data: bytes) -> None:
        """Pass on what is whole."""
        stream, shared = self._stream, self.shared
        size = len(data)
        block, messages = stream.feed(data)
        if messages:
            shared.board.forward(block, messages, shared.clock())
            self.messages += len(messages)
        self.byte_count += size
        if stream.held_bytes or self._held_bytes:
            self._account()
        if stream.commands:
            self.answer(stream.commands)
            stream.commands.clear()
        if stream.drops:
            self._report()
        self._read_bytes = LEAST_READ_BYTES if stream.is_dropping else _appetite(size, len(messages))

    def leave(self) -> None:
        """Close, and give back what is held of an incomplete message."""
        super().leave()
        self.shared.held.now_bytes -= self._held_bytes
        self.shared.watching.discard(self)

    def _account(self) -> None:
        held = self.shared.held
        if self._stream.held_bytes - self._held_bytes > held.room():
            self._stream.give_up("too much is held already")
        held.now_bytes += self._stream.held_bytes - self._held_bytes
        self._held_bytes = self._stream.held_bytes

    def _report(self) -> None:
        drops = self._stream.drops
        self.messages_dropped += len(drops)
        self.shared.say(f"dropped: {len(drops)} of {self}: {', '.join(dict.fromkeys(drops))}")
        drops.clear()


def _appetite(size: int, messages: int) -> int:
    """Say how much to read next time, from what the last read brought."""
    if messages <= MESSAGES_A_TURN // 2:
        return MOST_READ_BYTES
    return max(LEAST_READ_BYTES, min(MOST_READ_BYTES, size * MESSAGES_A_TURN // messages))


class Subscriber(Connection):
    """Who subscribes."""

    side = "subscriber"
    own_type = b"XPUB"
    allowed = frozenset({b"SUB", b"XSUB"})

    def __init__(self, connected: socket.socket, address: str, shared: Shared) -> None:
        self._stream = SubscriptionStream(shared.limits.prefix_bytes)
        self.refused = self.unreported_refusals = 0
        super().__init__(connected, address, shared)
        # It sends nothing but subscriptions; who sends very many shall not keep the others waiting.
        self._read_bytes = LEAST_READ_BYTES

    def read(self, data: bytes) -> None:
        """Subscribe and cancel."""
        wishes, commands, too_long = self._stream.feed(data)
        refused = too_long
        for is_wanted, prefix in wishes:
            if not is_wanted:
                self._cancel(prefix)
            elif not self._subscribe(prefix):
                refused += 1
        if refused:
            self.refused += refused
            self.unreported_refusals += refused
            self.shared.restless.add(self)
            self.rest()
        self.answer(commands)

    def report(self) -> None:
        """Say what was refused as well."""
        super().report()
        if self.unreported_refusals:
            self.shared.say(f"refused: {self.unreported_refusals} subscriptions of {self}: too many, or too long")
            self.unreported_refusals = 0

    def leave(self) -> None:
        """Close, and cancel all subscriptions."""
        super().leave()
        for prefix in self.shared.board.leave(self):
            self._tell(CANCEL + prefix)

    def _subscribe(self, prefix: bytes) -> bool:
        shared = self.shared
        answer = shared.board.subscribe(self, prefix)
        if answer is Answer.REFUSED:
            return False
        if answer is Answer.ADDED:
            self._tell(SUBSCRIBE + prefix)
            last = shared.board.last_values.get(prefix)
            kept = last.fresh(shared.clock()) if last else None
            if kept is not None:
                self.take(kept, 1)
            if prefix == shared.status_topic:
                self.take(message(prefix, shared.status()), 1)
        return True

    def _cancel(self, prefix: bytes) -> None:
        if self.shared.board.cancel(self, prefix):
            self._tell(CANCEL + prefix)

    def _tell(self, wish: bytes) -> None:
        for publisher in self.shared.watching:
            publisher.tell(message(wish))
