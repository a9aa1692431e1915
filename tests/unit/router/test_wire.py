"""KLoROS's envelope byte for byte, and requests in both shapes, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import CostTier
from kloros_infra.ir.messages import ChatMessage, Envelope
from kloros_infra.router.wire import (
    MAX_PAYLOAD_BYTES,
    Asked,
    Malformed,
    encode,
    facts_of,
    id_in_unreadable,
    question_of,
    read_object,
    request_in,
    signal_of,
    unreadable,
    write_message,
)

FACTS: dict[str, Any] = {"request_id": "req_01", "prompt": "Explain."}


def read_request(payload: bytes) -> Asked | Malformed | None:
    """Read a payload as the bus face does; None where nobody can be answered."""
    message = read_object(payload)
    if message is None:
        return None
    question_of(facts_of(message))
    found = request_in(message)
    return None if isinstance(found, Malformed) and found.request_id is None else found


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
    assert read_request(payload) is None


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
    assert isinstance(read_request(payload), Asked | Malformed | None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["request_id", "prompt", "facts", "constraints", "model", "ts", "trace"]), JSON))
def test_reading_any_object_is_total(message: dict[str, Any]) -> None:
    assert isinstance(read_request(json.dumps(message).encode("utf-8", "replace")), Asked | Malformed | None)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_what_is_written_can_be_read(facts: dict[str, Any]) -> None:
    written = json.loads(encode(Envelope(signal="s", ecosystem="e", facts=facts, ts=0.0)))
    assert written["facts"] == json.loads(json.dumps(facts))


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON), st.none() | st.text(st.characters(codec="utf-8")))
def test_the_quick_way_writes_what_the_envelope_says(facts: dict[str, Any], incident_id: str | None) -> None:
    quick = write_message("s", "e", facts, ts=1.5, incident_id=incident_id, trace="t")
    slow = encode(Envelope(signal="s", ecosystem="e", facts=facts, ts=1.5, incident_id=incident_id, trace="t"))
    assert quick.isascii()
    assert json.loads(quick) == json.loads(slow)
    assert list(json.loads(quick)) == list(json.loads(slow))


def test_the_quick_way_writes_no_figure_that_json_does_not_know() -> None:
    assert b'"facts":{"a":null,"b":null}' in write_message("s", "e", {"a": float("nan"), "b": float("inf")}, ts=1.0)


def test_a_question_is_the_same_whatever_is_said_beside_it() -> None:
    asked = {**FACTS, "purpose": "fast"}
    beside = {"metadata": {"attempt": 2}, "timeout_s": 3.5, "future": 1}
    assert question_of(asked) == question_of({**asked, **beside})
    assert question_of(asked) != question_of({**asked, "purpose": "slow"})


def test_a_question_of_another_service_is_another_question() -> None:
    first, second = ({**FACTS, "metadata": {"source_service": name, "attempt": 1}} for name in ("mind", "voice"))
    assert question_of(first) != question_of(second)
    assert question_of(first) == question_of({**FACTS, "metadata": {"source_service": "mind", "attempt": 2}})


@pytest.mark.parametrize(
    ("payload", "request_id"),
    [
        (b'{"facts":{"request_id" : "req_1","prompt":"\\ud800"}}', "req_1"),
        (b'{"request_id":"req_1","temperature":NaN}', "req_1"),
        (b'{"request_id":"","prompt":"\\ud800"}', None),
        (b'{"prompt":"\\"request_id\\":\\"req_1\\""', None),
        (b'{"request_id":"' + b"x" * 129 + b'"', None),
        (b"", None),
    ],
)
def test_who_sent_what_cannot_be_read_is_found_by_the_id(payload: bytes, request_id: str | None) -> None:
    assert read_object(payload) is None
    assert id_in_unreadable(payload) == request_id
    assert unreadable().code == "KI810"


def test_a_message_names_its_topic_in_either_shape() -> None:
    assert signal_of({"signal": "llm.cancel", "topic": "x"}) == "llm.cancel"
    assert signal_of({"topic": "llm.request"}) == "llm.request"
    assert signal_of({"signal": 5}) is None


def test_objects_of_other_peers_are_read_too() -> None:
    assert read_object(b'{"facts_toon":"x","toon_format":true}') == {"facts_toon": "x", "toon_format": True}
