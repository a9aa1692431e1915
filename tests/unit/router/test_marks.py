"""Marks: which purpose a request has that names none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.requests import Mark
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.candidates import Candidates, candidates
from kloros_infra.router.marks import Traits, by_marks, has_marks, purpose_by_marks
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routed_persona, a_routing_table
from tests.routed import a_client


def a_purpose(name: str, *marks: Mark, default: bool = False) -> RoutedPurpose:
    return RoutedPurpose(name=name, candidates=("small",), otherwise=None, is_default=default, marks=marks)


CODE = a_purpose("code", Mark(contains=("```", "Traceback")), Mark(model="*coder*"))
TALK = a_purpose("talk", default=True)
TABLE = a_routing_table(a_routed_model("small"), personas=(a_routed_persona("pirate"),), purposes=(TALK, CODE))


@pytest.mark.parametrize(
    ("mark", "traits", "words"),
    [
        (Mark(contains=("```", "def ")), Traits("x def y"), "its last message has 'def '"),
        (Mark(contains=("```",)), Traits("nothing"), None),
        (Mark(model="*Coder*"), Traits(model="GPT-coder:latest"), "it asks for a model like '*Coder*'"),
        (Mark(model="coder"), Traits(model="coder:latest"), "it asks for a model like 'coder'"),
        (Mark(model="*coder*"), Traits(), None),
        (Mark(sources=("ear", "voice")), Traits(source="voice"), "it comes from 'voice'"),
        (Mark(sources=("voice",)), Traits(), None),
        (Mark(kind=ModelKind.EMBEDDING), Traits(kind=ModelKind.EMBEDDING), "it is of kind embedding"),
        (Mark(kind=ModelKind.EMBEDDING), Traits(), None),
        (Mark(has_images=True), Traits(has_images=True), "it carries images"),
        (Mark(has_images=True), Traits(), None),
        (Mark(has_tools=False), Traits(), "it carries no tools"),
        (Mark(has_tools=False), Traits(has_tools=True), None),
        (Mark(min_tokens=10), Traits(tokens=10), "it has 10 tokens or more"),
        (Mark(min_tokens=10), Traits(tokens=9), None),
        (Mark(), Traits(), None),
        (Mark(has_tools=True, min_tokens=10), Traits(has_tools=True), None),
        (
            Mark(has_tools=True, min_tokens=10),
            Traits(has_tools=True, tokens=11),
            "it carries tools and it has 10 tokens or more",
        ),
    ],
)
def test_a_mark_is_borne_when_all_of_it_holds(mark: Mark, traits: Traits, words: str | None) -> None:
    assert purpose_by_marks([a_purpose("p", mark)], traits) == (None if words is None else ("p", words))


def test_the_first_purpose_of_which_a_mark_is_borne_is_meant() -> None:
    first, second = a_purpose("first", Mark(min_tokens=5)), a_purpose("second", Mark(min_tokens=1))
    assert purpose_by_marks([first, second], Traits(tokens=9)) == ("first", "it has 5 tokens or more")
    assert purpose_by_marks([first, second], Traits(tokens=2)) == ("second", "it has 1 tokens or more")


def test_a_query_gets_the_purpose_and_its_reason() -> None:
    query = by_marks(TABLE, Query(), Traits("a ``` b"))
    assert query.purpose == "code"
    found = candidates(TABLE, query, profile="cpu_only")
    assert isinstance(found, Candidates)
    assert found.words == "purpose 'code' (its last message has '```')"


def test_a_model_that_nobody_knows_gives_way_to_a_mark() -> None:
    query = by_marks(TABLE, Query(model="gpt-4-coder"), Traits("", "gpt-4-coder"))
    assert (query.purpose, query.model) == ("code", None)
    assert by_marks(TABLE, Query(model="gpt-4"), Traits("", "gpt-4")) == Query(model="gpt-4")


@pytest.mark.parametrize(
    "query", [Query(purpose="talk"), Query(model="small"), Query(model="pirate"), Query(persona="pirate")]
)
def test_what_a_request_names_is_meant(query: Query) -> None:
    assert by_marks(TABLE, query, Traits("```")) == query


def test_a_mark_does_not_lead_a_client_to_what_it_may_not_ask_for() -> None:
    assert by_marks(TABLE, Query(), Traits("```"), a_client(purposes=("talk",))) == Query()
    assert by_marks(TABLE, Query(), Traits("```"), a_client(purposes=("code",))).purpose == "code"


def test_tables_without_marks_need_no_traits() -> None:
    assert has_marks(TABLE)
    assert not has_marks(a_routing_table(purposes=(TALK,)))


MARKS = st.fixed_dictionaries(
    {},
    optional={
        "contains": st.just(("x",)),
        "model": st.just("a*"),
        "sources": st.just(("s",)),
        "kind": st.sampled_from(ModelKind),
        "has_images": st.booleans(),
        "has_tools": st.booleans(),
        "min_tokens": st.integers(1, 3),
    },
)
TRAITS = st.builds(
    Traits,
    last_message=st.sampled_from(("", "axb")),
    model=st.sampled_from((None, "abc", "b")),
    source=st.sampled_from((None, "s")),
    kind=st.sampled_from(ModelKind),
    has_images=st.booleans(),
    has_tools=st.booleans(),
    tokens=st.integers(0, 4),
)


@given(conditions=MARKS, traits=TRAITS)
def test_one_condition_more_never_makes_a_mark_borne(conditions: dict[str, Any], traits: Traits) -> None:
    is_borne = purpose_by_marks([a_purpose("p", Mark(**conditions))], traits) is not None
    parts = [purpose_by_marks([a_purpose("p", Mark(**{key: value}))], traits) for key, value in conditions.items()]
    assert is_borne == (bool(parts) and all(part is not None for part in parts))
