"""Judging an answer: what speaks against a target, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.daemon.outcomes import is_harmless, is_loading, outcome_of, retry_after_s
from kloros_infra.router.events import Outcome

HARMLESS: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize(
    ("status", "local", "remote"),
    [
        (200, Outcome.SERVED, Outcome.SERVED),
        (400, Outcome.REFUSED, Outcome.REFUSED),
        (401, Outcome.REFUSED, Outcome.UNAVAILABLE),
        (404, Outcome.REFUSED, Outcome.UNAVAILABLE),
        (429, Outcome.BUSY, Outcome.BUSY),
        (501, Outcome.REFUSED, Outcome.REFUSED),
        (502, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE),
        (503, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE),
        (504, Outcome.UNAVAILABLE, Outcome.UNAVAILABLE),
    ],
)
def test_a_status_means_what_the_table_says(status: int, local: Outcome, remote: Outcome) -> None:
    assert outcome_of(status, is_local=True, body=HARMLESS) is local
    assert outcome_of(status, is_local=False, body=HARMLESS) is remote


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "hi"},
        {**HARMLESS, "tools": [{"type": "function"}]},
        {**HARMLESS, "response_format": {"type": "json_schema"}},
        {**HARMLESS, "grammar": "root ::="},
        turns("system", "user"),
        turns("user", "user"),
        turns("user", "assistant"),
        turns(),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
    ],
)
def test_a_500_that_the_request_may_have_caused_blames_nobody(body: dict[str, Any]) -> None:
    assert not is_harmless(body)
    assert outcome_of(500, is_local=True, body=body) is Outcome.REFUSED


def test_a_500_to_a_request_without_fault_blames_the_target() -> None:
    assert outcome_of(500, is_local=True, body=HARMLESS) is Outcome.UNAVAILABLE
    assert is_harmless(turns("user", "assistant", "user"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b" 0 ", 0.0),
        (b"Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"soon", None),
        (b"-1", None),
        (b"", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    assert retry_after_s(value, now=100.0) == seconds


def test_loading_is_told_from_other_503s() -> None:
    said = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
    assert is_loading(503, said)
    assert not is_loading(500, said)
    assert not is_loading(503, b"no")
