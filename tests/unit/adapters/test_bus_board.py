"""Who gets which message, within which limits, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.adapters.bus_board import MAX_FAMILIES, Answer, Board, Dropped, Subscriptions, family_of
from kloros_infra.adapters.zmtp import Message, message

KEPT = "llm.health"
prefixes = st.text("ab.", max_size=4).map(str.encode)


@dataclass(eq=False)
class Taker:
    """A subscriber that has room for so many messages."""

    room: int = 1_000_000
    blocks: list[tuple[bytes, int]] = field(default_factory=list)

    def take(self, block: bytes, count: int) -> Dropped | None:
        if count > self.room:
            return Dropped(count, len(block))
        self.blocks.append((block, count))
        return None


def a_board(*, each: int = 100, total: int = 1000) -> Board:
    return Board(Subscriptions(each, total), {KEPT: 90.0}, "private")


def sent(*topics: str) -> tuple[bytes, list[Message]]:
    data, found = b"", []
    for topic in topics:
        start = len(data)
        data += message(topic.encode(), b"{}")
        found.append((topic.encode(), start, len(data)))
    return data, found


def forward(board: Board, *topics: str, now: float = 0.0) -> None:
    board.forward(*sent(*topics), now)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), prefixes), max_size=40), prefixes)
def test_matching_is_what_the_definition_says(wishes: list[tuple[int, bool, bytes]], topic: bytes) -> None:
    subscriptions, takers = Subscriptions(100, 1000), [Taker() for _ in range(4)]
    expected: set[tuple[int, bytes]] = set()
    for who, is_wanted, prefix in wishes:
        if is_wanted:
            subscriptions.add(takers[who], prefix)
            expected.add((who, prefix))
        else:
            gone = subscriptions.remove(takers[who], prefix)
            was_there = (who, prefix) in expected
            expected.discard((who, prefix))
            assert gone == (was_there and not any(one == prefix for _, one in expected))
    found = subscriptions.matching(topic)
    assert len(found) == len(set(found))
    assert {takers.index(one) for one in found if isinstance(one, Taker)} == {
        who for who, prefix in expected if topic.startswith(prefix)
    }
    assert subscriptions.count == len(expected)
    assert set(subscriptions.prefixes()) == {prefix for _, prefix in expected}
    for who, taker in enumerate(takers):
        own = {prefix for one, prefix in expected if one == who}
        assert subscriptions.count_of(taker) == len(own)
        assert set(subscriptions.remove_all(taker)) <= own
    assert (subscriptions.count, subscriptions.prefixes()) == (0, ())


def test_subscriptions_beyond_a_limit_are_refused_until_others_are_cancelled() -> None:
    subscriptions, one, other = Subscriptions(2, 3), Taker(), Taker()
    answers = [subscriptions.add(one, prefix) for prefix in (b"a", b"a", b"b", b"c")]
    assert answers == [Answer.ADDED, Answer.KNOWN, Answer.ADDED, Answer.REFUSED]
    assert [subscriptions.add(other, prefix) for prefix in (b"a", b"b")] == [Answer.ADDED, Answer.REFUSED]
    subscriptions.remove(one, b"a")
    assert subscriptions.add(other, b"b") is Answer.ADDED


def test_neighbours_of_one_topic_go_as_one_block_and_each_subscriber_gets_each_message_once() -> None:
    board, taker = a_board(), Taker()
    for prefix in (b"", b"a", b"a.b"):
        board.subscribe(taker, prefix)
    forward(board, "a.b", "a.b", "c", "a.b")
    one, other = message(b"a.b", b"{}"), message(b"c", b"{}")
    assert taker.blocks == [(one + one, 2), (other, 1), (one, 1)]


def test_messages_that_do_not_lie_side_by_side_are_not_joined() -> None:
    board, taker = a_board(), Taker()
    board.subscribe(taker, b"a")
    first, second = message(b"a", b"1"), message(b"a", b"2")
    between = b"\x04\x05\x04PING"
    after = len(first + between)
    board.forward(first + between + second, [(b"a", 0, len(first)), (b"a", after, after + len(second))], 0.0)
    assert taker.blocks == [(first, 1), (second, 1)]


def test_routes_follow_subscriptions_that_come_and_go() -> None:
    board, taker, other = a_board(), Taker(), Taker()
    forward(board, "a")
    board.subscribe(taker, b"a")
    forward(board, "a")
    assert board.cancel(taker, b"a")
    forward(board, "a")
    board.subscribe(other, b"a")
    forward(board, "a")
    assert board.leave(other) == [b"a"]
    forward(board, "a")
    assert (len(taker.blocks), len(other.blocks)) == (1, 1)


def test_what_passes_is_counted_by_family() -> None:
    board, taker, full = a_board(), Taker(), Taker(room=1)
    board.subscribe(taker, b"llm.")
    board.subscribe(full, b"llm.response")
    forward(board, "llm.response.a", "llm.response.b", "llm.response.b", "HEARTBEAT")
    size = len(message(b"llm.response.a", b"{}"))
    family = board.families["llm.response"]
    assert (family.messages_in, family.bytes_in) == (3, 3 * size)
    assert (family.messages_out, family.bytes_out, family.messages_dropped) == (4, 4 * size, 2)
    assert board.families["HEARTBEAT"].messages_out == 0


def test_families_are_bounded() -> None:
    board = a_board()
    forward(board, *(f"topic-{number}" for number in range(MAX_FAMILIES + 10)))
    assert len(board.families) == MAX_FAMILIES + 1
    assert board.families["(other)"].messages_in == 10


def test_routes_are_forgotten_before_they_are_too_many() -> None:
    board, taker = a_board(), Taker()
    board.subscribe(taker, b"")
    forward(board, *(f"llm.response.{number}" for number in range(10_000)), "x" * 1000)
    assert len(board._routes) <= 4096
    assert sum(count for _, count in taker.blocks) == 10_001


@pytest.mark.parametrize(
    ("topic", "family"),
    [
        (b"llm.response.a1b2", "llm.response"),
        (b"HEARTBEAT", "HEARTBEAT"),
        (b"", ""),
        (b"\xff.b.c", "\\xff.b"),
        (b"a\x1b[2J.b", "a\N{REPLACEMENT CHARACTER}[2J.b"),
        (b"x" * 200, "x" * 64),
    ],
)
def test_the_family_of_a_topic_can_be_printed(topic: bytes, family: str) -> None:
    assert family_of(topic) == family


def test_the_last_message_of_a_kept_topic_is_kept_until_it_is_too_old() -> None:
    board = a_board()
    last = board.last_values[KEPT.encode()]
    assert last.fresh(0.0) is None
    forward(board, "llm.health.x", now=1.0)
    assert last.fresh(1.0) is None
    data, messages = sent(KEPT)
    board.forward(data, messages, 2.0)
    assert last.fresh(92.0) == data
    assert last.fresh(92.1) is None


def test_nobody_publishes_on_the_private_topic() -> None:
    board, taker = a_board(), Taker()
    board.subscribe(taker, b"")
    forward(board, "private", "private.x")
    assert taker.blocks == [(message(b"private.x", b"{}"), 1)]
