"""Events of applies and of the service manager, as one list."""

from __future__ import annotations

import json

from kloros_infra.cli.events import event_lines, in_order
from kloros_infra.ir.event import Event


def events(source: str, *moments: str) -> list[Event]:
    return [Event(at, source, f"{source}{number}") for number, at in enumerate(moments)]


def test_two_sources_are_put_in_order_of_time() -> None:
    found = in_order(events("a", "10", "30"), events("b", "20", "30"))
    assert [event.text for event in found] == ["a0", "b0", "a1", "b1"]


def test_a_clock_that_was_set_back_does_not_turn_what_one_source_tells_around() -> None:
    found = in_order(events("a", "10", "30", "20", "40"), events("b", "35"))
    assert [event.text for event in found] == ["a0", "a1", "a2", "b0", "a3"]


def test_each_is_a_line_and_none_no_line() -> None:
    found = tuple(events("a", "10"))
    assert list(event_lines(found, as_json=False)) == ["10  a  a0"]
    assert [json.loads(line) for line in event_lines(found, as_json=True)] == [
        {"version": 1, "at": "10", "source": "a", "text": "a0"}
    ]
    assert list(event_lines((), as_json=False)) == []
