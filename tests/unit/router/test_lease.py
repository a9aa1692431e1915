"""Allocations: the journal brings back what had not ended, and what was adopted protects, expires, or is evicted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.effects import AllocationChange
from kloros_infra.router.lease import (
    ADOPTED_ACTIVE_S,
    LONGEST_S,
    Adopted,
    Lease,
    changed,
    journal_line,
    journal_text,
    read_journal,
)

EPOCH_OFFSET_S = 1_700_000_000.0


def a_lease(id: str = "alloc_1", target: str = "code-max", created_at: float = 5.0) -> Lease:
    return Lease(id, "req_1", "coder", "max", target, created_at, 600.0)


def written(lease: Lease, change: AllocationChange) -> str:
    return journal_line(changed(lease, change), epoch_offset_s=EPOCH_OFFSET_S)


def test_a_line_says_what_the_design_wants_to_be_known() -> None:
    line = written(a_lease(), AllocationChange.CREATED)
    assert line.endswith("\n")
    assert json.loads(line) == {
        "change": "created",
        "allocation_id": "alloc_1",
        "request_id": "req_1",
        "model_id": "coder",
        "profile": "max",
        "target": "code-max",
        "created_at": EPOCH_OFFSET_S + 5.0,
        "ttl_s": 600.0,
    }


def test_what_had_not_ended_comes_back_on_the_clock_of_whoever_reads() -> None:
    kept, ended = a_lease("alloc_1"), a_lease("alloc_2")
    text = journal_text([kept, ended], epoch_offset_s=EPOCH_OFFSET_S)
    text += written(ended, AllocationChange.RELEASED) + written(a_lease("alloc_9"), AllocationChange.EXPIRED)
    assert read_journal(text, epoch_offset_s=EPOCH_OFFSET_S) == (kept,)
    (later,) = read_journal(text, epoch_offset_s=EPOCH_OFFSET_S + 100)
    assert later.created_at == kept.created_at - 100


@pytest.mark.parametrize(
    "line",
    [
        "",
        "torn",
        "[]",
        "{}",
        '{"change": "released", "allocation_id": 1}',
        '{"change": "created"}',
        json.dumps(a_lease()._asdict() | {"change": "created", "ttl_s": True}),
        json.dumps(a_lease()._asdict() | {"change": "created", "target": None}),
        json.dumps(a_lease()._asdict() | {"change": "created", "created_at": float("nan")}),
        json.dumps(a_lease()._asdict() | {"change": "created", "ttl_s": float("inf")}),
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_is_passed_over(line: str) -> None:
    text = line + "\n" + written(a_lease(), AllocationChange.CREATED)
    assert read_journal(text, epoch_offset_s=EPOCH_OFFSET_S) == (a_lease(),)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(AllocationChange))), max_size=30), st.integers(0, 40))
def test_a_torn_journal_gives_a_prefix_of_what_was_lent(steps: list[tuple[int, AllocationChange]], cut: int) -> None:
    lines = [written(a_lease(f"alloc_{number}"), change) for number, change in steps]
    text = "".join(lines)
    whole = text[: len(text) - cut] if cut else text
    complete = whole.count("\n")
    found = read_journal(whole, epoch_offset_s=EPOCH_OFFSET_S)
    # The last line may be whole though its end is not.
    expected = [
        read_journal("".join(lines[:count]), epoch_offset_s=EPOCH_OFFSET_S) for count in (complete, complete + 1)
    ]
    assert found in expected


def test_a_journal_of_which_any_byte_was_flipped_is_read_and_protects_no_longer_than_a_lease_may() -> None:
    whole = b"".join(written(a_lease(f"alloc_{n}"), AllocationChange.CREATED).encode() for n in range(2))
    for at in range(len(whole)):
        for flip in (0x01, 0x10, 0x80, 0xFF):
            harmed = whole[:at] + bytes((whole[at] ^ flip,)) + whole[at + 1 :]
            text = harmed.decode("utf-8", errors="replace")
            adopted = Adopted(read_journal(text, epoch_offset_s=EPOCH_OFFSET_S), 10.0)
            assert len(adopted) <= 2
            adopted.expired(10.0 + LONGEST_S)
            assert len(adopted) == 0


def test_where_the_clock_was_put_back_nothing_protects_longer_than_it_was_lent_for() -> None:
    adopted = Adopted([a_lease()._replace(created_at=30 * 86_400.0)], 10.0)
    assert adopted.is_lent("code-max", 609.9)
    assert not adopted.is_lent("code-max", 610.0)


def test_what_is_adopted_protects_from_eviction_for_a_moment_and_from_idleness_until_it_expires() -> None:
    adopted = Adopted([a_lease(), a_lease("alloc_2", "chat-max", 100.0)], 10.0)
    assert len(adopted) == 2
    assert adopted.is_active("code-max", 11.0)
    assert not adopted.is_active("code-max", 10.0 + ADOPTED_ACTIVE_S)
    assert not adopted.is_active("other-max", 11.0)
    assert adopted.is_lent("code-max", 604.9)
    assert not adopted.is_lent("code-max", 605.0)
    assert adopted.next_at(11.0) == 10.0 + ADOPTED_ACTIVE_S
    assert adopted.next_at(10.0 + ADOPTED_ACTIVE_S) == 605.0
    assert adopted.expired(600.0) == ()
    assert [lease.allocation_id for lease in adopted.expired(605.0)] == ["alloc_1"]
    assert [lease.allocation_id for lease in adopted.of("chat-max")] == ["alloc_2"]
    assert adopted.next_at(0.0) is None
