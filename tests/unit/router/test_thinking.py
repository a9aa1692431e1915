"""Thinking is separated from the answer, also when it is cut off or its opening is in the prompt."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kloros_infra.router.thinking import Speech, split_thinking


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Four.", "", "Four."),
        ("<think>2+2</think>Four.", "2+2", "Four."),
        ("<think>\n2+2\n</think>\n\nFour.\n", "2+2", "Four.\n"),
        ("\n<think>2+2", "2+2", ""),
        ("2+2</think>\nFour.", "2+2", "Four."),
        ("<think></think>Four.", "", "Four."),
        ("", "", ""),
        ("What does <think> mean?", "", "What does <think> mean?"),
    ],
)
def test_thinking_is_separated(text: str, reasoning: str, answer: str) -> None:
    assert split_thinking(text) == (reasoning, answer)


@given(st.text())
def test_text_without_marks_is_untouched(text: str) -> None:
    if "think>" not in text:
        assert split_thinking(text) == ("", text)


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", " ", "\n", "word", "</think", ">", ""]), max_size=12
)


@given(PIECES)
def test_pieces_say_together_what_the_whole_says(pieces: list[str]) -> None:
    text = "".join(pieces)
    # A closing mark alone comes too late: what stood before it has been said.
    assume("</think>" not in text or text.lstrip().startswith("<think>"))
    speech = Speech()
    said = "".join([*map(speech.feed, pieces), speech.rest()])
    assert said == split_thinking(text)[1]


def test_an_answer_is_not_held_back_once_it_has_begun() -> None:
    speech = Speech()
    assert [speech.feed(piece) for piece in ("<think>hm", "</think>\n", " Fo", "ur", ".")] == ["", "", "Fo", "ur", "."]
    plain = Speech()
    assert [plain.feed(piece) for piece in (" <", "b>", "x")] == ["", " <b>", "x"]
