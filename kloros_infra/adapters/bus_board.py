"""Who gets which message: subscriptions, counters by family of topics, and last values. No I/O.

Subscriptions are prefixes, as everywhere in ZeroMQ. Everything here is bounded: what a peer asks for beyond a limit is
refused and counted, so that no peer can make the proxy grow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from kloros_infra.adapters.zmtp import Message

OTHER_FAMILY: Final = "(other)"
MAX_FAMILIES = 256
MAX_FAMILY_CHARACTERS = 64
MAX_REMEMBERED_ROUTES = 4096
MAX_REMEMBERED_TOPIC_BYTES = 512


class Dropped(NamedTuple):
    """What did not go to a subscriber."""

    messages: int
    byte_count: int


class Target(Protocol):
    """Who takes messages."""

    def take(self, block: bytes, count: int) -> Dropped | None:
        """Take a block of so many messages; say what had to be dropped."""
        ...


@dataclass(slots=True)
class Family:
    """What passed of the topics that begin alike."""

    name: str
    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    messages_dropped: int = 0


@dataclass(slots=True)
class LastValue:
    """The last message of a topic, for those who come late; `max_age_s` old at the most."""

    max_age_s: float
    message: bytes | None = None
    at_s: float = 0.0

    def keep(self, message: bytes, now: float) -> None:
        """Put another message in place of the last."""
        self.message, self.at_s = message, now

    def fresh(self, now: float) -> bytes | None:
        """Give the message unless it is too old."""
        return self.message if now - self.at_s <= self.max_age_s else None


@dataclass(slots=True)
class Route:
    """Where messages of one topic go."""

    targets: tuple[Target, ...]
    family: Family
    last: LastValue | None


class Answer(Enum):
    """What became of a wish to subscribe."""

    ADDED = auto()
    KNOWN = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Subscriptions:
    """Prefixes and who subscribed to them, up to a limit for each subscriber and one for all."""

    limit_each: int
    limit_total: int
    count: int = 0
    _by_prefix: dict[bytes, tuple[Target, ...]] = field(default_factory=dict)
    _by_target: dict[Target, set[bytes]] = field(default_factory=dict)
    _lengths: Counter[int] = field(default_factory=Counter)

    def add(self, target: Target, prefix: bytes) -> Answer:
        """Subscribe, unless it is one too many."""
        own = self._by_target.setdefault(target, set())
        if prefix in own:
            return Answer.KNOWN
        if len(own) >= self.limit_each or self.count >= self.limit_total:
            return Answer.REFUSED
        own.add(prefix)
        others = self._by_prefix.get(prefix, ())
        if not others:
            self._lengths[len(prefix)] += 1
        self._by_prefix[prefix] = (*others, target)
        self.count += 1
        return Answer.ADDED

    def remove(self, target: Target, prefix: bytes) -> bool:
        """Cancel a subscription; say whether nobody has it any more."""
        own = self._by_target.get(target, set())
        if prefix not in own:
            return False
        own.discard(prefix)
        self.count -= 1
        rest = tuple(one for one in self._by_prefix[prefix] if one is not target)
        if rest:
            self._by_prefix[prefix] = rest
            return False
        del self._by_prefix[prefix]
        self._lengths[len(prefix)] -= 1
        if not self._lengths[len(prefix)]:
            del self._lengths[len(prefix)]
        return True

    def remove_all(self, target: Target) -> list[bytes]:
        """Cancel all of a subscriber's; give those that nobody has any more."""
        gone = [prefix for prefix in tuple(self._by_target.get(target, ())) if self.remove(target, prefix)]
        self._by_target.pop(target, None)
        return gone

    def count_of(self, target: Target) -> int:
        """Say how many a subscriber has."""
        return len(self._by_target.get(target, ()))

    def prefixes(self) -> tuple[bytes, ...]:
        """List what is subscribed to."""
        return tuple(self._by_prefix)

    def matching(self, topic: bytes) -> tuple[Target, ...]:
        """List who gets messages of a topic, each once."""
        found: dict[Target, None] = {}
        for length in self._lengths:
            if length <= len(topic):
                found.update(dict.fromkeys(self._by_prefix.get(topic[:length], ())))
        return tuple(found)


class Board:
    """Passes messages on, counts them, and keeps the last value of some topics."""

    def __init__(self, subscriptions: Subscriptions, kept_s: Mapping[str, float], private: str) -> None:
        """Keep the last value of the topics in `kept_s` for so many seconds; let nobody publish on `private`."""
        self.subscriptions = subscriptions
        self.last_values = {topic.encode(): LastValue(max_age_s) for topic, max_age_s in kept_s.items()}
        self.families: dict[str, Family] = {}
        self._private = private.encode()
        self._routes: dict[bytes, Route] = {}

    def subscribe(self, target: Target, prefix: bytes) -> Answer:
        """Subscribe, unless it is one too many."""
        answer = self.subscriptions.add(target, prefix)
        if answer is Answer.ADDED:
            self._routes.clear()
        return answer

    def cancel(self, target: Target, prefix: bytes) -> bool:
        """Cancel a subscription; say whether nobody has it any more."""
        self._routes.clear()
        return self.subscriptions.remove(target, prefix)

    def leave(self, target: Target) -> list[bytes]:
        """Forget a subscriber; give the prefixes that nobody has any more."""
        self._routes.clear()
        return self.subscriptions.remove_all(target)

    def forward(self, data: bytes, messages: Sequence[Message], now: float) -> None:
        """Pass messages on; those of one topic that lie side by side go as one block."""
        routes, count, begin, until = self._routes, 0, 0, 0
        current: Route | None = None
        for topic, start, end in messages:
            route = routes.get(topic) or self._route(topic)
            if route is not current or start != until:
                if current is not None:
                    _pass_on(current, data[begin:until], count)
                current, begin, count = route, start, 0
            if route.last is not None:
                route.last.keep(data[start:end], now)
            count += 1
            until = end
        if current is not None:
            _pass_on(current, data[begin:until], count)

    def _route(self, topic: bytes) -> Route:
        targets = () if topic == self._private else self.subscriptions.matching(topic)
        route = Route(targets, self._family(topic), self.last_values.get(topic))
        if len(topic) <= MAX_REMEMBERED_TOPIC_BYTES:
            if len(self._routes) >= MAX_REMEMBERED_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _family(self, topic: bytes) -> Family:
        name = family_of(topic)
        if name not in self.families and len(self.families) >= MAX_FAMILIES:
            name = OTHER_FAMILY
        return self.families.setdefault(name, Family(name))


def _pass_on(route: Route, block: bytes, count: int) -> None:
    family, size = route.family, len(block)
    family.messages_in += count
    family.bytes_in += size
    for target in route.targets:
        family.messages_out += count
        family.bytes_out += size
        dropped = target.take(block, count)
        if dropped is not None:
            family.messages_out -= dropped.messages
            family.bytes_out -= dropped.byte_count
            family.messages_dropped += dropped.messages


def family_of(topic: bytes) -> str:
    """Name the family of a topic: its first two parts, `llm.response` for `llm.response.a1b2`."""
    text = topic[: 2 * MAX_FAMILY_CHARACTERS].decode("utf-8", "backslashreplace")
    plain = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return ".".join(plain.split(".")[:2])[:MAX_FAMILY_CHARACTERS]
