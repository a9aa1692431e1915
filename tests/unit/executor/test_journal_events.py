"""The journal of applies as events: one line for what was done, and the step at which one was killed."""

from __future__ import annotations

from kloros_infra.executor.journal_events import Line, journal_events

ONE = {"kind": "WriteArtifact", "text": "write one"}


def texts(*lines: Line) -> list[str]:
    numbered = [{"at": f"2026-01-01T00:00:0{index}", **line} for index, line in enumerate(lines)]
    events = tuple(journal_events({7: numbered}))
    assert {event.source for event in events} <= {"apply 7"}
    return [event.text for event in events]


def test_an_apply_is_told_from_its_beginning_to_its_end() -> None:
    assert texts(
        {"event": "begin", "previous": None, "goal": 1},
        {"event": "before", "step": ONE},
        {"event": "after", "step": ONE},
        {"event": "finish", "outcome": "applied"},
    ) == ["began: from no generation to generation 1", "write one", "ended: applied"]


def test_what_was_undone_is_told() -> None:
    assert texts(
        {"event": "begin", "previous": 1, "goal": 2},
        {"event": "before", "step": ONE},
        {"event": "undone", "step": ONE},
        {"event": "finish", "outcome": "undone"},
    ) == ["began: from generation 1 to generation 2", "undone: write one", "ended: undone"]


def test_an_apply_that_was_killed_ends_with_what_it_had_begun() -> None:
    found = texts({"event": "before", "step": ONE}, {"event": "after", "step": ONE}, {"event": "before", "step": ONE})
    assert found == ["write one", "began to write one, and has not ended"]


def test_lines_of_an_earlier_version_and_of_a_later_one_are_borne() -> None:
    assert texts({"event": "after", "step": "write two"}, {"event": "something new"}, {}) == ["write two"]
