"""The line: more urgent first, clients in turn, then arrival; whoever is in it comes out once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.queue import Line, wait_s


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
    ranks = [arrivals[int(id)][1] for id in taken]
    assert ranks == sorted(ranks)
    assert not len(line)
