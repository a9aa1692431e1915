"""KLoROS's envelope byte for byte, and requests in both shapes, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import CostTier
from kloros_infra.ir.messages import ChatMessage, Envelope
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES, Asked, Malformed, encode, read_object, read_request

FACTS: dict[str, Any] = {"request_id": "req_01", "prompt": "Explain."}


def enveloped(facts: Any, **more: Any) -> bytes:
    return json.dumps({"signal": "llm.request", "ecosystem": "llm", "facts": facts, "ts": 1.0, **more}).encode()


def test_an_envelope_is_written_as_chempub_writes_it() -> None:
    envelope = Envelope(
        signal="llm.response.a", ecosystem="llm", facts={"text": "Grüß dich 👋"}, incident_id="i", ts=1.5
    )
    assert encode(envelope) == (
        b'{"signal":"llm.response.a","ecosystem":"llm","intensity":1.0,'
        b'"facts":{"text":"Gr\\u00fc\\u00df dich \\ud83d\\udc4b"},'
        b'"incident_id":"i","trace":null,"ts":1.5,"schema_version":1}'
    )


def test_figures_that_json_cannot_write_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(Envelope(signal="s", ecosystem="e", facts={"figure": float("nan")}, ts=1.0))


def test_a_request_may_be_an_envelope() -> None:
    asked = read_request(enveloped({**FACTS, "purpose": "fast"}, incident_id="i", trace="t", channel="legacy"))
    assert isinstance(asked, Asked)
    assert (asked.request.purpose, asked.incident_id, asked.trace) == ("fast", "i", "t")


def test_a_request_may_be_the_design_documents_flat_object() -> None:
    flat = {
        "topic": "llm.request",
        "request_id": "req_01HXYZ123",
        "purpose": "code_understanding",
        "prompt": "Explain this function...",
        "constraints": {"min_context_tokens": 16000, "max_latency_ms": 5000, "cost_tier": "medium"},
        "metadata": {"source_service": "kloros-code-agent", "user_id": "kloros", "session_id": "sess_abc123"},
    }
    asked = read_request(json.dumps(flat).encode())
    assert isinstance(asked, Asked)
    assert asked.request.prompt == (ChatMessage(role="user", content="Explain this function..."),)
    assert asked.request.constraints.cost_tier is CostTier.MEDIUM
    assert asked.incident_id is None


def test_a_prompt_may_be_turns_and_absent_constraints_may_be_null() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?", "name": "x"}]
    asked = read_request(json.dumps({**FACTS, "prompt": turns, "constraints": None, "future": 1}).encode())
    assert isinstance(asked, Asked)
    assert [turn.role for turn in asked.request.prompt] == ["system", "user"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": None},
        {"prompt": 5},
        {"prompt": {"role": "user", "content": "x"}},
        {"prompt": [{"role": "usr", "content": "x"}]},
        {"prompt": [{"content": "x"}]},
        {"prompt": [{"role": "user", "content": ["x"]}]},
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"temperature": -1},
        {"temperature": "1e999"},
        {"constraints": "none"},
        {"constraints": {"cost_tier": "free"}},
        {"constraints": {"max_latency_ms": -5}},
        {"purpose": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_flat", [True, False])
def test_a_bad_request_with_an_id_can_be_answered(wrong: dict[str, Any], is_flat: bool) -> None:
    facts = {**FACTS, **wrong}
    asked = read_request(json.dumps(facts).encode() if is_flat else enveloped(facts))
    assert isinstance(asked, Malformed)
    assert asked.request_id == "req_01"
    assert asked.problem.code == "KI810"
    assert next(iter(wrong)) in asked.problem.detail


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b"NaN",
        b'{"request_id":"a","prompt":"x","temperature":NaN}',
        b'{"request_id":"a","prompt":"\xff"}',
        b'{"request_id":"a","prompt":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"9" * 10_000,
        b"\xef\xbb\xbf{}",
        b'{"request_id":"a","prompt":"' + b"x" * MAX_PAYLOAD_BYTES + b'"}',
        b"{}",
        b'{"prompt":"x"}',
        b'{"request_id":"","prompt":"x"}',
        b'{"request_id":5,"prompt":"x"}',
        b'{"request_id":"a b","prompt":"x"}',
        b'{"request_id":"../../etc","prompt":"x"}',
        b'{"request_id":"' + b"a" * 200 + b'","prompt":"x"}',
        b'{"facts":{},"request_id":"outside"}',
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_what_has_no_readable_id_answers_to_nobody(payload: bytes) -> None:
    asked = read_request(payload)
    assert isinstance(asked, Malformed)
    assert asked.request_id is None


def test_an_infinite_figure_is_refused() -> None:
    asked = read_request(b'{"request_id":"a","prompt":"x","temperature":1e999}')
    assert isinstance(asked, Malformed)
    assert "temperature" in asked.problem.detail


def test_the_problem_does_not_repeat_what_was_asked() -> None:
    asked = read_request(enveloped({**FACTS, "prompt": [{"role": "secret-word", "content": "secret-word"}]}))
    assert isinstance(asked, Malformed)
    assert "secret-word" not in asked.problem.detail


@given(st.binary())
def test_reading_is_total(payload: bytes) -> None:
    assert isinstance(read_request(payload), Asked | Malformed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["request_id", "prompt", "facts", "constraints", "model", "ts", "trace"]), JSON))
def test_reading_any_object_is_total(message: dict[str, Any]) -> None:
    assert isinstance(read_request(json.dumps(message).encode("utf-8", "replace")), Asked | Malformed)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_what_is_written_can_be_read(facts: dict[str, Any]) -> None:
    written = json.loads(encode(Envelope(signal="s", ecosystem="e", facts=facts, ts=0.0)))
    assert written["facts"] == json.loads(json.dumps(facts))


def test_objects_of_other_peers_are_read_too() -> None:
    assert read_object(b'{"facts_toon":"x","toon_format":true}') == {"facts_toon": "x", "toon_format": True}
