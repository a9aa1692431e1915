"""What of an HTTP request bears on where it goes."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.daemon.asking import SHORT_BYTES, Asking
from kloros_infra.daemon.desk import Desk
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.requests import Mark, Priority
from kloros_infra.ir.routing import RoutedClient, RoutedPolicies, RoutedPurpose
from kloros_infra.router.core import Core
from kloros_infra.router.query import Query
from tests.factories import a_routing_table

VOICE = RoutedClient(
    name="voice",
    sources=("kloros_voice",),
    credential=None,
    models=None,
    purposes=None,
    data_class=None,
    priority=Priority.VOICE,
    max_queued=None,
    requests_per_minute=None,
)
CODE = RoutedPurpose(
    name="code", candidates=("small",), otherwise=None, is_default=False, marks=(Mark(contains=("def ",)),)
)


def an_asking(*, has_marks: bool = False) -> Asking:
    table = a_routing_table().model_copy(update={"policies": RoutedPolicies(clients=(VOICE,))})
    if has_marks:
        table = table.model_copy(update={"purposes": (CODE, *table.purposes)})
    clock = SystemClock()
    return Asking(Desk(Core(table, profile="cpu_only", now=clock.now()), clock))


def chat(text: str = "hi", **metadata: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "metadata": metadata}


def test_each_request_has_an_id_of_its_own_and_a_deadline() -> None:
    asking = an_asking()
    first, second = (asking.asked(Query(), {"messages": []}, 35) for _ in range(2))
    assert first.id != second.id
    assert first.deadline_at > SystemClock().now()
    assert (first.client, first.tokens, first.session, first.priority) == ("", 10, None, None)


@pytest.mark.parametrize(
    ("source", "client"),
    [("kloros_voice", "voice"), ("stranger", "stranger"), ("voice", "?voice"), (7, ""), ("", "")],
)
def test_a_client_is_known_by_its_source_and_nobody_by_anothers_name(source: object, client: str) -> None:
    assert an_asking().asked(Query(), chat(source_service=source, x=1), 35).client == client


def test_session_and_priority_are_read_where_they_are_words() -> None:
    asked = an_asking().asked(Query(), chat(session_id="s", priority="batch"), 35)
    assert (asked.session, asked.priority) == ("s", Priority.BATCH)
    asked = an_asking().asked(Query(), chat(session_id=1, priority=["voice"]), 35)
    assert (asked.session, asked.priority) == (None, None)


def test_a_name_that_would_fill_the_memory_is_passed_over() -> None:
    asked = an_asking().asked(Query(), chat(source_service="s" * 201, session_id="t" * 201), 35)
    assert (asked.client, asked.session) == ("", None)
    asked = an_asking().asked(Query(), chat(source_service="s" * 200, session_id="t" * 200), 35)
    assert (asked.client, asked.session) == ("s" * 200, "t" * 200)


def test_a_long_body_is_measured_by_its_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    body = {"messages": [{"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]}]}
    asked = an_asking().asked(Query(ModelKind.VISION), body, SHORT_BYTES + 10_000)
    assert 1024 <= asked.tokens < 1100


@pytest.mark.parametrize(
    "body",
    [
        chat("def f(x):"),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "def f(x):"}, {"type": "image_url"}]}]},
        {"prompt": "def f(x):"},
    ],
)
def test_a_purpose_is_told_by_its_marks(body: dict[str, Any]) -> None:
    asked = an_asking(has_marks=True).asked(Query(), body, 35)
    assert asked.query.purpose == "code"
    assert asked.query.by_mark


@pytest.mark.parametrize("body", [chat("hi"), {"input": ["def "]}, {"messages": [{"role": "user", "content": None}]}])
def test_without_a_mark_the_query_stays(body: dict[str, Any]) -> None:
    assert an_asking(has_marks=True).asked(Query(), body, 35).query == Query()
    named = Query(purpose="fast")
    assert an_asking(has_marks=True).asked(named, chat("def "), 35).query == named
