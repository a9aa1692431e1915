"""Estimates of a prompt's length, for each place where a body may carry text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.tokens import (
    TOKENS_PER_IMAGE,
    TOKENS_PER_TURN,
    cannot_fit,
    estimate_tokens,
    likely_fits,
    tokens_of_bytes,
)

TEXT = "seven b" * 5  # 35 bytes: 10 tokens
A_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"model": TEXT, "stream": True}, 0),
        ({"messages": [{"role": "user", "content": TEXT}]}, 10 + TOKENS_PER_TURN),
        ({"messages": ({"role": "user", "content": TEXT},) * 2}, 20 + 2 * TOKENS_PER_TURN),
        ({"messages": [{"role": "assistant", "content": None}]}, TOKENS_PER_TURN),
        ({"messages": [{"role": "assistant", "tool_calls": ["x" * 31]}]}, 10 + TOKENS_PER_TURN),
        ({"messages": "not turns"}, 0),
        ({"messages": ["not a turn"]}, 0),
        ({"messages": [{"content": [{"type": "text", "text": TEXT}, TEXT]}]}, 20 + TOKENS_PER_TURN),
        ({"messages": [{"content": [A_PICTURE]}]}, TOKENS_PER_TURN + TOKENS_PER_IMAGE),
        ({"messages": [{"content": TEXT, "images": ["AAAA"]}]}, 10 + TOKENS_PER_TURN + TOKENS_PER_IMAGE),
        ({"prompt": TEXT, "system": TEXT, "images": ["AAAA", "BBBB"]}, 20 + 2 * TOKENS_PER_IMAGE),
        ({"prompt": [1, 2, 3, 4, 5, 6, 7]}, 8),
        ({"input": [TEXT, TEXT]}, 20),
        ({"query": TEXT, "documents": [{"text": TEXT}]}, 20),
        ({"prompt": "ж" * 35}, 20),
        ({"prompt": "\udc80"}, 1),
        ({"tools": ["x" * 31]}, 10),
        ({"tools": None, "json_schema": "x" * 33}, 10),
        ({"prompt": 1.5}, 0),
    ],
)
def test_what_the_model_reads_is_counted(body: dict[str, Any], tokens: int) -> None:
    assert estimate_tokens(body) == tokens


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(first: str, second: str) -> None:
    longer = estimate_tokens({"prompt": first + second})
    assert longer >= estimate_tokens({"prompt": first})
    assert longer == tokens_of_bytes(len((first + second).encode("utf-8", "surrogatepass")))


def test_what_may_fit_is_not_called_impossible() -> None:
    assert likely_fits(2047, 2048)
    assert not likely_fits(2048, 2048)
    assert not cannot_fit(2048, 2048)
    assert cannot_fit(16 * 2048, 2048)


@given(tokens=st.integers(0, 10**7), context=st.integers(1, 10**6))
def test_what_likely_fits_is_never_impossible(tokens: int, context: int) -> None:
    assert not (likely_fits(tokens, context) and cannot_fit(tokens, context))
