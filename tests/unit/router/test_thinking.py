"""Thinking is separated from the answer, also when it is cut off or its opening is in the prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.thinking import split_thinking


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
