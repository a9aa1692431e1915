"""Clients: how they are told, and how fast they may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.requests import ClientAccess
from kloros_infra.ir.routing import RoutedPolicies
from kloros_infra.router import refusals
from kloros_infra.router.clients import Clients, Rate, on_request
from tests.routed import a_client

VOICE = a_client("voice", sources=("kloros-voice", "kloros-ear"), credential="voice-keys")
CODE = a_client("code", sources=("code-agent",))


def clients(access: ClientAccess = ClientAccess.ALLOW) -> Clients:
    return Clients(RoutedPolicies(clients=(VOICE, CODE), unknown_clients=access))


@pytest.mark.parametrize("source", ["kloros-voice", "kloros-ear"])
def test_a_client_is_told_by_its_source(source: str) -> None:
    assert clients().of(source) is VOICE


def test_a_key_outranks_the_name_that_comes_with_it() -> None:
    assert clients().of("code-agent", "voice-keys") is VOICE
    assert clients().of("code-agent", "other-keys") is CODE


@pytest.mark.parametrize(("source", "credential"), [(None, None), ("nobody", None), (None, "other-keys")])
def test_others_are_unknown(source: str | None, credential: str | None) -> None:
    assert clients().of(source, credential) is None


def test_a_client_has_a_name() -> None:
    assert clients().named("code") is CODE
    assert clients().named("nobody") is None


def test_unknown_clients_are_refused_where_models_yaml_says_so() -> None:
    strict = clients(ClientAccess.REFUSE)
    assert strict.refusal(VOICE) is None
    assert clients().refusal(None, "kloros-voic") is None
    problem = strict.refusal(None, "kloros-voic")
    assert problem is not None
    assert problem.code == "KI860"
    assert problem.detail.startswith("'kloros-voic' is no client")
    assert problem.hint.endswith("Did you mean 'kloros-voice'?")
    nameless = strict.refusal(None)
    assert nameless is not None
    assert nameless.detail.startswith("Whoever asks is no client")


def test_a_minutes_requests_may_come_at_once_and_then_one_by_one() -> None:
    rate: Rate | None = None
    for _ in range(60):
        rate, retry_after_s = on_request(rate, 60, 100.0)
        assert retry_after_s is None
    rate, retry_after_s = on_request(rate, 60, 100.0)
    assert retry_after_s == pytest.approx(1.0)
    rate, retry_after_s = on_request(rate, 60, 101.0)
    assert retry_after_s is None
    _, retry_after_s = on_request(rate, 60, 101.5)
    assert retry_after_s == pytest.approx(0.5)


@given(
    per_minute=st.integers(1, 600),
    waits_s=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_no_more_than_a_minutes_worth_beyond_the_rate(per_minute: int, waits_s: list[float]) -> None:
    now, rate, passed = 0.0, None, 0
    for wait_s in waits_s:
        now += wait_s
        rate, retry_after_s = on_request(rate, per_minute, now)
        passed += retry_after_s is None
        if retry_after_s is not None:
            assert on_request(rate, per_minute, now + retry_after_s + 1e-6)[1] is None
    assert passed <= per_minute + now * per_minute / 60 + 1e-6


def test_what_is_asked_beyond_a_limit_is_told_with_the_limit() -> None:
    assert refusals.too_fast("voice", 60).code == "KI864"
    assert "60 requests a minute" in refusals.too_fast("voice", 60).detail
    assert refusals.line_full_of("voice", 8).code == "KI865"
    assert "8 requests waiting" in refusals.line_full_of("voice", 8).detail
