"""What the tool is asked, and when an answer is out of date."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import Instance, KvType
from kloros_infra.ir.overrider_record import (
    OverriderQuestion,
    OverriderRecord,
    ShownCard,
    record_from_json,
    record_to_json,
)
from kloros_infra.placement.overrider_question import question_of
from tests.factories import GIB, a_card, a_gguf_header
from tests.overrider_cases import HEADERS, SEEN_MIB, an_overridden


def a_7b() -> Instance:
    return an_overridden(HEADERS["qwen25-coder-7b-q4_0"]())


def with_shares(*shares: float) -> tuple[float, ...]:
    question = question_of(replace(a_7b(), gpu_percentages=shares))
    return tuple(card.ceiling for card in question.cards)


def test_cards_are_shown_as_cuda_sees_them() -> None:
    question = question_of(a_7b())

    assert [card.memory_mib for card in question.cards] == list(SEEN_MIB)
    assert [card.name for card in question.cards] == ["rtx5080", "rtx3060", "gtx1080ti"]


def test_a_card_may_be_filled_to_nine_tenths_or_to_its_reserve() -> None:
    spacious = a_card("a", vram_bytes=10 * GIB, reserve_bytes=GIB // 2)
    shared = a_card("b", vram_bytes=10 * GIB, reserve_bytes=4 * GIB)
    nothing = a_card("c", vram_bytes=0, reserve_bytes=GIB)

    question = question_of(an_overridden(a_gguf_header(), spacious, shared, nothing))

    assert [card.ceiling for card in question.cards] == [0.9, 0.6, 0.0]


def test_a_name_with_a_comma_does_not_break_the_list_of_cards() -> None:
    card = replace(a_card(), model="RTX 3060, refurbished")

    assert question_of(an_overridden(a_gguf_header(), card)).cards[0].name == "RTX 3060  refurbished"


def test_shares_become_ceilings() -> None:
    """5 048 MiB are divided; a card of 15 880 gets 80 % of it, and room for one tensor of 408 MiB."""
    first, second, third = with_shares(80, 20, 0)

    assert (first, second, third) == pytest.approx((0.28, 0.119, 0.0), abs=0.005)


def test_shares_beyond_a_card_fill_it() -> None:
    small = replace(
        a_7b(), profile=replace(a_7b().profile, cards=(a_card(vram_bytes=2 * GIB), *a_7b().profile.cards[1:]))
    )

    question = question_of(replace(small, gpu_percentages=(90, 5, 5)))

    assert question.cards[0].ceiling == 0.75


def test_the_context_is_that_of_all_slots() -> None:
    instance = a_7b()
    question = question_of(replace(instance, serving=replace(instance.serving, parallel=3)))

    assert (question.context_tokens, question.parallel) == (49152, 3)


def test_facts_that_the_tool_does_not_read_leave_an_answer_as_it_is() -> None:
    header = a_gguf_header()

    def asked(**changes: object) -> OverriderQuestion:
        return question_of(an_overridden(replace(header, **changes)))  # type: ignore[arg-type]  # of a test's choice

    assert asked(sliding_window=128, vocabulary_size=5) == asked()
    assert asked(head_count=header.head_count + 1) != asked()
    assert asked(tensors=header.tensors[:-1]) != asked()


def test_what_differs_is_named() -> None:
    question = question_of(a_7b())
    other = replace(
        question,
        facts_sha256="f" * 64,
        context_tokens=8192,
        cache_type_k=KvType.Q8_0,
        cards=(ShownCard("a", 100, 0.5),),
    )

    assert list(other.differences(question)) == [
        ("facts sha256", "ffffffffffff", question.facts_sha256[:12]),
        (
            "cards",
            "a 100 MiB up to 0.5",
            "rtx5080 15880 MiB up to 0.9, rtx3060 11906 MiB up to 0.9, gtx1080ti 11165 MiB up to 0.9",
        ),
        ("context tokens", "8192", "16384"),
        ("cache type k", "q8_0", "f16"),
    ]
    assert list(question.differences(question)) == []


def test_a_record_is_read_as_it_was_written() -> None:
    record = OverriderRecord(question_of(a_7b()), "1.0.0", '-ngl 0 -ot "a=CPU"')

    text = record_to_json(record)

    assert record_from_json(text) == record
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"version": 1', '"version": 2', "version: Input should be 1"),
        ('"ceiling": 0.9', '"ceiling": 1.9', "question.cards.0.ceiling: Input should be less than or equal to 1"),
        ('"tool"', '"tools"', "tool: Field required; tools: Extra inputs are not permitted"),
        ("{", "", "text: Invalid JSON"),
    ],
)
def test_another_text_is_no_record(old: str, new: str, reason: str) -> None:
    text = record_to_json(OverriderRecord(question_of(a_7b()), "1.0.0", ""))

    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        record_from_json(text.replace(old, new, 1))

    assert reason in str(caught.value)
