"""Addresses, errors and messages of the client; and that it costs a service next to nothing to have it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

import kloros_infra.client as library
from kloros_infra.client import Addresses, AsyncClient, Client, LlmError, NoAnswerError, RefusedError
from kloros_infra.client import messages as words
from kloros_infra.client.answer import answer_in
from kloros_infra.client.conversation import Conversation
from kloros_infra.client.errors import no_sockets
from kloros_infra.client.wishes import request_facts
from kloros_infra.ir import messages
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES, Asked, request_in


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Addresses()),
        ({"KLOROS_LLM_DIRECT": "ipc:///run/x"}, Addresses(direct="ipc:///run/x")),
        ({"KLOROS_LLM_DIRECT": "off"}, Addresses(direct=None)),
        ({"KLR_CHEM_XSUB": "tcp://127.0.0.1:1"}, Addresses(xsub="tcp://127.0.0.1:1")),
        ({"KLR_UMN_XPUB": "tcp://127.0.0.1:2", "KLR_CHEM_XPUB": ""}, Addresses(xpub="tcp://127.0.0.1:2")),
    ],
)
def test_kloross_variables_name_the_places(environment: dict[str, str], expected: Addresses) -> None:
    assert Addresses().overridden(environment) == expected


def test_families_that_disagree_are_refused() -> None:
    with pytest.raises(LlmError, match="KLR_CHEM_XSUB=a and KLR_UMN_XSUB=b") as raised:
        Addresses().overridden({"KLR_CHEM_XSUB": "a", "KLR_UMN_XSUB": "b"})
    assert raised.value.code == "KI706"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "tcp://[::1]:65535", "tcp://rig.local:1", "ipc:///run/x"])
def test_what_libzmq_takes_is_an_address(address: str) -> None:
    assert Addresses(address, address, address).checked() == (address, address, address)
    assert Addresses(None).checked().direct is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:5555",
        "localhost:5556",
        "tcp://127.0.0.1",
        "tcp://x:0",
        "tcp://x:65536",
        "tcp://:",
        "ipc://",
        "udp://x:1",
    ],
)
@pytest.mark.parametrize("side", Addresses._fields)
def test_other_words_are_refused_before_anything_is_asked(side: str, address: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(LlmError, match=f"{side} is '") as raised:
            kind(Addresses()._replace(**{side: address}))
        assert raised.value.code == "KI857"


@pytest.mark.parametrize(("number", "is_temporary"), [(errno.EMFILE, True), (errno.EINVAL, False)])
def test_a_shortage_passes_and_a_wrong_address_does_not(number: int, *, is_temporary: bool) -> None:
    error = no_sockets(OSError(number, "Said"))
    assert (error.message, error.is_temporary) == ("No connection can be made: Said.", is_temporary)


def test_the_standard_places_are_those_of_models_yaml() -> None:
    from kloros_infra.ir.config_services import BusSpec  # noqa: PLC0415 - the library is looked at alone first

    standard = BusSpec()
    assert Addresses() == Addresses(standard.direct, standard.xsub, standard.xpub)


def test_topics_are_the_routers() -> None:
    assert (words.REQUEST_TOPIC, words.CANCEL_TOPIC, words.PING_TOPIC, words.RESPONSE_PREFIX) == (
        messages.REQUEST_TOPIC,
        messages.CANCEL_TOPIC,
        messages.PING_TOPIC,
        messages.RESPONSE_PREFIX,
    )


def test_the_envelope_is_kloross_and_the_router_reads_it() -> None:
    facts = request_facts("c-1", "Grüß dich", {"purpose": "fast", "model": None}, timeout_s=5, source="voice")
    text = words.written("llm.request", "c-1", words.facts_text(facts), ts=1.5).decode()
    message = json.loads(text)
    assert text.isascii()
    assert list(message) == list(messages.Envelope.model_fields)
    assert message["facts"] == {
        "request_id": "c-1",
        "prompt": "Grüß dich",
        "timeout_s": 5,
        "purpose": "fast",
        "metadata": {"source_service": "voice"},
    }
    assert isinstance(request_in(message), Asked)


def test_what_a_caller_says_of_the_source_wins() -> None:
    facts = request_facts("c-1", "x", {"metadata": {"source_service": "own", "a": 1}}, timeout_s=5, source="voice")
    assert facts["metadata"] == {"source_service": "own", "a": 1}


@pytest.mark.parametrize("prompt", [object(), float("nan")])
def test_what_json_cannot_say_is_refused_where_it_is_asked(prompt: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        words.facts_text({"prompt": prompt})


def test_a_question_is_as_long_as_the_router_takes_it_and_no_longer() -> None:
    assert words.MAX_PAYLOAD_BYTES == MAX_PAYLOAD_BYTES
    id = Conversation(Addresses()).new_id()
    envelope = words.written(words.REQUEST_TOPIC, id, "", ts=time.time())
    assert len(envelope) <= words.ENVELOPE_BYTES
    room = words.MAX_PAYLOAD_BYTES - words.ENVELOPE_BYTES - len(words.facts_text({"prompt": ""}))
    words.facts_text({"prompt": "x" * room})
    with pytest.raises(RefusedError, match=f"{room + 1 + 13} bytes") as raised:
        words.facts_text({"prompt": "x" * (room + 1)})
    assert raised.value.code == "KI855"


@pytest.mark.parametrize("prompt", ["caf\udce9", [{"role": "user", "content": "\ud83d"}]])
def test_half_a_character_is_refused_where_it_is_asked(prompt: Any) -> None:
    with pytest.raises(RefusedError, match="half of a character") as raised:
        words.facts_text({"prompt": prompt})
    assert raised.value.code == "KI856"


@pytest.mark.parametrize("prompt", ["\U0001f600", "\ud83d\ude00", "한국", "\\ud83d"])
def test_two_halves_are_one(prompt: str) -> None:
    assert json.loads(words.facts_text({"prompt": prompt}))["prompt"].encode()


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[1]", b'{"facts":5}', b"[" * 100_000])
def test_noise_has_no_facts(payload: bytes) -> None:
    assert words.facts_in(payload) == {}


def test_an_answer_is_its_text_and_a_refusal_has_all_that_the_router_says() -> None:
    answer = answer_in({"success": True, "response": "Hi", "request_id": "c-1", "metadata": {"model_id": "small"}})
    assert (str(answer), answer.model_id, answer.profile) == ("Hi", "small", "")
    error = {"code": "KI816", "message": "Too many", "hint": "Later.", "is_temporary": True}
    with pytest.raises(RefusedError, match="KI816 Too many") as raised:
        answer_in({"success": False, "error": {**error, "retry_after_s": 2.0, "queue_position": 9}})
    refused = raised.value
    assert (refused.hint, refused.is_temporary, refused.retry_after_s, refused.queue_position) == (
        "Later.",
        True,
        2.0,
        9,
    )
    with pytest.raises(RefusedError, match="KI853"):
        answer_in({"success": False})


@pytest.mark.parametrize("code", ["KI811", "KI826", "KI870"])
def test_too_late_is_too_late_whoever_notices_it_first(code: str) -> None:
    with pytest.raises(NoAnswerError, match=code) as raised:
        answer_in({"success": False, "error": {"code": code, "message": "Too late."}, "metadata": {"partial": "a"}})
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.partial == "a"


def test_names_that_are_not_there_are_named() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = library.nothing


def test_the_library_brings_nothing_heavy_along() -> None:
    look = (
        "import sys, kloros_infra.client as c; c.Client;"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'pydantic', 'pydantic_core', 'httpx', 'asyncio', 'yaml', 'click', 'jinja2', 'dataclasses'}),"
        "*sorted(m for m in sys.modules if m.startswith('kloros_infra.') and not m.startswith('kloros_infra.client')))"
    )
    # What measures our tests imports much of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
