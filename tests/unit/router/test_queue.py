"""The line: more urgent first, clients in turn, then arrival; whoever is in it comes out once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.queue import MOST_PASSED, Line, wait_s


def everyone(_: str) -> bool:
    return True


def drained(line: Line) -> list[str]:
    taken = []
    while (id := line.take(everyone)) is not None:
        taken.append(id)
    return taken


def a_line(*waiting: tuple[str, str, int]) -> Line:
    line = Line()
    for id, client, rank in waiting:
        line.add(id, client=client, rank=rank)
    return line


def test_of_one_client_they_go_as_they_came() -> None:
    line = a_line(("1", "a", 1), ("2", "a", 1), ("3", "a", 1))
    assert len(line) == 3
    assert "2" in line
    assert line.first() == "1"
    assert drained(line) == ["1", "2", "3"]
    assert line.first() is None


def test_clients_take_turns_however_many_one_of_them_brings() -> None:
    line = a_line(("a1", "a", 1), ("a2", "a", 1), ("a3", "a", 1), ("b1", "b", 1), ("c1", "c", 1), ("b2", "b", 1))
    assert list(line) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert drained(line) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_the_more_urgent_go_first() -> None:
    line = a_line(("batch", "a", 2), ("chat", "a", 1), ("voice", "a", 0))
    assert drained(line) == ["voice", "chat", "batch"]


def test_who_may_not_go_is_passed_by_and_keeps_its_place() -> None:
    line = a_line(("1", "a", 1), ("2", "a", 1), ("3", "b", 1))
    assert line.take(lambda id: id == "2") == "2"
    assert line.take(lambda id: id == "4") is None
    assert line.take(lambda id: id != "1") == "3"
    assert drained(line) == ["1"]


def test_a_position_counts_from_one_and_moves_up() -> None:
    line = a_line(("1", "a", 1), ("2", "a", 1), ("3", "b", 1))
    assert [line.position(id) for id in "123"] == [1, 3, 2]
    line.remove("1")
    assert line.position("2") == 1


@pytest.mark.parametrize(("ahead", "at_a_time", "each_s", "expected"), [(1, 1, 5, 5), (5, 2, 2, 6), (1, 0, 0.1, 1)])
def test_the_wait_is_what_those_ahead_take(ahead: int, at_a_time: int, each_s: float, expected: float) -> None:
    assert wait_s(ahead, at_a_time=at_a_time, each_s=each_s) == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=40))
def test_nobody_is_lost_and_nobody_comes_twice(arrivals: list[tuple[str, int, bool]]) -> None:
    line = Line()
    for index, (client, rank, _) in enumerate(arrivals):
        line.add(str(index), client=client, rank=rank)
    left = {str(index) for index, arrival in enumerate(arrivals) if arrival[2]}
    for id in left:
        line.remove(id)
    expected = list(line)
    taken = drained(line)
    assert taken == expected
    assert sorted(taken) == sorted({str(index) for index in range(len(arrivals))} - left)
    assert not len(line)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=60))
def test_a_class_is_passed_so_often_and_no_oftener(arrivals: list[tuple[str, int]]) -> None:
    line = Line()
    for index, (client, rank) in enumerate(arrivals):
        line.add(str(index), client=client, rank=rank)
    left, passed = [rank for _, rank in arrivals], [0, 0, 0]
    for id in drained(line):
        rank = arrivals[int(id)][1]
        due = [other for other in set(left) if passed[other] >= MOST_PASSED]
        assert rank in due if due else rank == min(left)
        left.remove(rank)
        passed = [count + 1 if other > rank and other in left else count for other, count in enumerate(passed)]
        passed[rank] = 0
        assert max(passed) <= MOST_PASSED + 1


@given(st.lists(st.integers(0, 2), max_size=80), st.sampled_from([1, 2]), st.integers(1, 3))
def test_however_many_urgent_ones_come_nobody_waits_for_ever(ranks: list[int], rank: int, each_time: int) -> None:
    line = a_line(*((f"before{index}", "a", other) for index, other in enumerate(ranks)))
    line.add("patient", client="b", rank=rank)
    taken = []
    for turn in range((len(ranks) + 1) * (MOST_PASSED + 2)):
        for more in range(each_time):
            line.add(f"urgent{turn}.{more}", client="c", rank=0)
        taken.append(line.take(everyone))
    assert "patient" in taken


def test_a_class_that_eight_went_before_has_its_turn() -> None:
    line = a_line(("batch", "a", 2), ("chat", "a", 1), *((f"voice{turn}", "v", 0) for turn in range(20)))
    assert [line.position(id) for id in ("voice7", "batch", "chat", "voice8")] == [8, 10, 9, 11]
    assert [line.take(everyone) for _ in range(10)] == [*(f"voice{turn}" for turn in range(8)), "chat", "batch"]
    assert line.take(everyone) == "voice8"


def test_one_whose_turn_it_is_and_that_may_not_go_keeps_it() -> None:
    line = a_line(("batch", "a", 2), *((f"voice{turn}", "v", 0) for turn in range(20)))
    for _ in range(8):
        line.take(everyone)
    assert line.first() == "voice8", "whom an instance is started for"
    assert line.take(lambda id: id != "batch") == "voice8"
    assert line.take(everyone) == "batch"
    assert line.take(everyone) == "voice9"


def test_who_leaves_takes_the_turn_along() -> None:
    line = a_line(("batch", "a", 2), *((f"voice{turn}", "v", 0) for turn in range(20)))
    for _ in range(8):
        line.take(everyone)
    line.remove("batch")
    line.add("late", client="a", rank=2)
    assert line.take(everyone) == "voice8"
