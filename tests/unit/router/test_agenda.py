"""Reminders: in time, once each, and none that was taken back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.agenda import LEAST_CLEARED, NEVER, Agenda, Due


def test_the_earliest_comes_first_and_none_before_its_time() -> None:
    agenda = Agenda()
    assert agenda.next_at() is None
    agenda.note(2.0, Due.IDLE, "a")
    agenda.note(1.0, Due.POLL_INSTANCE, "b")
    assert agenda.next_at() == 1.0
    assert agenda.take(0.5) is None
    assert agenda.take(1.0) == (Due.POLL_INSTANCE, "b")
    assert agenda.take(1.0) is None
    assert agenda.take(9.0) == (Due.IDLE, "a")


def test_a_note_stands_against_a_later_one_and_a_move_against_none() -> None:
    agenda = Agenda()
    agenda.note(2.0, Due.IDLE, "a")
    agenda.note(5.0, Due.IDLE, "a")
    assert agenda.next_at() == 2.0
    agenda.move(5.0, Due.IDLE, "a")
    assert agenda.next_at() == 5.0
    agenda.note(4.0, Due.IDLE, "a")
    assert agenda.next_at() == 4.0


def test_what_is_forgotten_does_not_come() -> None:
    agenda = Agenda()
    agenda.note(2.0, Due.IDLE, "a")
    assert agenda.is_noted(Due.IDLE, "a")
    agenda.forget(Due.IDLE, "a")
    agenda.forget(Due.IDLE, "never noted")
    assert not agenda.is_noted(Due.IDLE, "a")
    assert agenda.next_at() is None


@given(st.lists(st.tuples(st.sampled_from(("note", "move", "forget", "take")), st.floats(0, 9), st.sampled_from("ab"))))
def test_nothing_is_due_before_the_earliest(steps: list[tuple[str, float, str]]) -> None:
    agenda, known = Agenda(), dict[str, float]()
    for step, at, key in steps:
        match step:
            case "note":
                agenda.note(at, Due.IDLE, key)
                known[key] = min(at, known.get(key, at))
            case "move":
                agenda.move(at, Due.IDLE, key)
                known[key] = at
            case "forget":
                agenda.forget(Due.IDLE, key)
                known.pop(key, None)
            case _:
                taken = agenda.take(at)
                assert taken is None or known.pop(taken[1]) <= at
        assert agenda.earliest <= min(known.values(), default=NEVER)
    assert agenda.next_at() == min(known.values(), default=None)
    assert agenda.earliest == min(known.values(), default=NEVER)


def test_what_was_taken_back_does_not_pile_up() -> None:
    agenda = Agenda()
    for number in range(10_000):
        agenda.note(100.0 + number, Due.DEADLINE, str(number))
        agenda.forget(Due.DEADLINE, str(number))
    assert len(agenda) <= LEAST_CLEARED + 2


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from("abc")), max_size=60))
def test_it_tells_what_a_plain_dictionary_would(steps: list[tuple[bool, int, str]]) -> None:
    agenda, plain = Agenda(), dict[str, float]()
    for is_move, at, key in steps:
        if is_move:
            agenda.move(at, Due.IDLE, key)
            plain[key] = at
        else:
            agenda.note(at, Due.IDLE, key)
            plain[key] = min(at, plain.get(key, at))
    told = []
    while (reminder := agenda.take(100.0)) is not None:
        told.append(reminder[1])
    assert told == sorted(plain, key=lambda key: (plain[key], key))
