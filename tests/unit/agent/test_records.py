"""What is kept below /run, and what becomes of it when it is damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.agent.memory import Memory, memory_text, read_memory
from kloros_infra.agent.records import (
    RecordedEvent,
    cleared_text,
    dated_after,
    events_text,
    latest_epoch_s,
    read_cleared,
    read_events,
)
from kloros_infra.topology.state import History, TopologyState

MEMORY = Memory(TopologyState(profile="max", history=History(upgraded_s=5.0)), 1_700_000_000.5, "mid")
EVENTS = (
    RecordedEvent(card="rtx3060", xid=31, epoch_s=3.0),
    RecordedEvent(card="rtx5080", xid=48, epoch_s=2.0),
    RecordedEvent(card="rtx5080", xid=79, epoch_s=1.0),
)


def test_the_memory_is_read_back_in_the_same_boot_alone() -> None:
    text = memory_text(MEMORY, "boot-1")
    assert read_memory(text, "boot-1") == MEMORY
    assert read_memory(text, "boot-2") == Memory()
    assert text.count("\n") == 2


@pytest.mark.parametrize("text", [None, "", "{}", "{\n}", "[]\n[]"])
def test_a_damaged_memory_is_none(text: str | None) -> None:
    assert read_memory(text, "boot-1") == Memory()


def test_a_memory_of_which_the_end_is_lost_still_knows_what_was_followed() -> None:
    header = memory_text(MEMORY, "boot-1").partition("\n")[0]
    assert read_memory(header, "boot-1") == Memory(TopologyState(), 1_700_000_000.5, "mid")


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    assert read_memory(text, "boot-1") == Memory()
    assert read_events(text, "boot-1") == ()
    assert isinstance(read_cleared(text), dict)


def test_events_are_read_back_in_the_same_boot_alone() -> None:
    text = events_text(reversed(EVENTS), "boot-1")
    assert read_events(text, "boot-1") == EVENTS
    assert read_events(text, "boot-2") == ()


def test_of_equal_events_the_latest_is_kept() -> None:
    again = RecordedEvent(card="rtx5080", xid=79, epoch_s=9.0)
    assert read_events(events_text((again, *EVENTS), "boot-1"), "boot-1") == (*EVENTS[:2], again)


def test_times_of_clearing_are_read_back() -> None:
    assert read_cleared(cleared_text({"rtx5080": 5.5})) == {"rtx5080": 5.5}
    assert read_cleared(None) == {}


def test_an_event_is_dated_after_those_of_its_card_also_where_the_clock_was_set_back() -> None:
    new = RecordedEvent(card="rtx5080", xid=79, epoch_s=1.5)
    assert latest_epoch_s(EVENTS, "rtx5080") == 2.0
    assert dated_after(new, EVENTS).epoch_s == pytest.approx(2.001)
    later = RecordedEvent(card="rtx5080", xid=79, epoch_s=2.5)
    assert dated_after(later, EVENTS) == later
    other = RecordedEvent(card="other", xid=79, epoch_s=0.5)
    assert (dated_after(other, EVENTS), latest_epoch_s(EVENTS, "other")) == (other, None)
