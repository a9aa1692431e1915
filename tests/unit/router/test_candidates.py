"""Candidates: order, targets, scores and obstacles, whatever runs."""

from __future__ import annotations

import pytest

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.requests import Priority, UpstreamKind
from kloros_infra.ir.routing import LOCAL_PRIORITY, RoutedClient, RoutedModel, RoutedPurpose, RoutingTable
from kloros_infra.router.candidates import Candidates, Obstacle, candidates, considered
from kloros_infra.router.query import Query, Refused
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.routed import DATA_CLASSES, a_client, a_host, served_by

SMALL = a_routed_model("small", an_upstream("small-max", context_tokens=4096), languages=("en",))
BIG = a_routed_model(
    "big",
    an_upstream("big-max", port=8611, context_tokens=32768),
    purpose_tags=("deep", "fast"),
    languages=("en", "DE-at"),
    context_tokens=32768,
    cost_tier=CostTier.HIGH,
)
AFAR = a_routed_model("afar", context_tokens=65536, cost_tier=CostTier.MEDIUM).model_copy(update={"upstreams": ()})
EMBED = a_routed_model("embed", an_upstream("embed-max"), kind=ModelKind.EMBEDDING, purpose_tags=("rag",))
TALK = RoutedPurpose(
    name="talk",
    candidates=("small", "big", "afar"),
    otherwise=None,
    is_default=True,
    max_latency_s=2.0,
    max_cost_tier=CostTier.MEDIUM,
    priority=Priority.VOICE,
    can_continue_elsewhere=True,
)
TABLE = served_by(
    a_routing_table(SMALL, BIG, AFAR, EMBED, profiles=("max", "mid"), purposes=(TALK,)),
    a_host(models={"small": "tiny:1b", "afar": "llama3:70b"}),
)


def found(
    query: Query, *, table: RoutingTable = TABLE, profile: str = "max", client: RoutedClient | None = None
) -> Candidates:
    answer = candidates(table, query, profile=profile, client=client)
    assert isinstance(answer, Candidates), answer
    return answer


def refused(
    query: Query, *, table: RoutingTable = TABLE, profile: str = "max", client: RoutedClient | None = None
) -> Refused:
    answer = candidates(table, query, profile=profile, client=client)
    assert isinstance(answer, Refused)
    assert not answer.is_temporary
    return answer


def ids(answer: Candidates) -> list[str]:
    return [choice.model.id for choice in answer.choices]


def test_a_purpose_brings_its_candidates_in_order_and_its_limits() -> None:
    answer = found(Query())
    assert [(one.model.id, one.place, one.obstacle) for one in answer.considered] == [
        ("small", 1, None),
        ("big", 2, Obstacle.COST),
        ("afar", 3, None),
    ]
    assert ids(answer) == ["small", "afar"]
    assert answer.choices[1].reason == (
        "'afar' is choice 3 of 3 for the default purpose 'talk', after 'big' (too costly)."
    )
    assert (answer.purpose, answer.persona) == ("talk", None)
    assert (answer.max_latency_s, answer.priority, answer.can_continue_elsewhere) == (2.0, Priority.VOICE, True)


def test_the_stricter_of_request_and_purpose_holds() -> None:
    assert found(Query(max_latency_s=0.5)).max_latency_s == 0.5
    assert found(Query(max_latency_s=5.0)).max_latency_s == 2.0
    assert ids(found(Query(cost_tier=CostTier.LOW))) == ["small"]
    assert ids(found(Query(cost_tier=CostTier.HIGH))) == ["small", "afar"]


def test_a_named_model_has_no_limits_but_the_requests_own() -> None:
    answer = found(Query(model="big"))
    assert (answer.max_latency_s, answer.priority, answer.can_continue_elsewhere) == (None, Priority.INTERACTIVE, False)
    assert answer.choices[0].score is None
    assert found(Query(model="big", max_latency_s=3.0)).max_latency_s == 3.0


def test_a_tag_has_no_limits_either() -> None:
    answer = found(Query(purpose="fast"))
    assert (answer.purpose, answer.max_latency_s, answer.priority) == ("fast", None, Priority.INTERACTIVE)


def test_a_clients_priority_outranks_the_purposes() -> None:
    assert found(Query(), client=a_client(priority=Priority.BATCH)).priority is Priority.BATCH
    assert found(Query(), client=a_client()).priority is Priority.VOICE


def test_a_model_is_served_here_and_elsewhere_by_priority() -> None:
    far, near = found(Query(model="small")).choices[0].targets
    assert (near.name, near.address, near.port, near.is_local) == ("small-max", "127.0.0.1", 8601, True)
    assert (near.asked_as, near.context_tokens) == (None, 4096)
    assert (far.name, far.kind, far.address, far.port) == ("rig/small", UpstreamKind.OLLAMA, "192.0.2.7", 11434)
    assert (far.path, far.is_tls, far.asked_as, far.credential) == ("/v1", True, "tiny:1b", "rig-key")
    assert not far.is_local


@pytest.mark.parametrize(
    ("priority", "names"),
    [
        (LOCAL_PRIORITY - 1, ["rig/small", "small-max"]),
        (LOCAL_PRIORITY, ["small-max", "rig/small"]),
        (LOCAL_PRIORITY + 1, ["small-max", "rig/small"]),
    ],
)
def test_this_machine_goes_first_among_equals(priority: int, names: list[str]) -> None:
    table = served_by(TABLE, a_host(models={"small": "tiny"}, priority=priority))
    assert [target.name for target in found(Query(model="small"), table=table).choices[0].targets] == names


def test_hosts_of_one_priority_stay_in_the_order_of_the_file() -> None:
    table = served_by(TABLE, a_host("b", models={"afar": "x"}), a_host("a", models={"afar": "x"}))
    targets = found(Query(model="afar"), table=table).choices[0].targets
    assert [target.name for target in targets] == ["b/afar", "a/afar"]


def test_without_an_instance_in_the_profile_a_host_serves() -> None:
    choice = found(Query(model="small"), profile="mid").choices[0]
    assert choice.upstream is None
    assert [target.name for target in choice.targets] == ["rig/small"]


def test_only_targets_with_context_enough_are_left() -> None:
    table = served_by(TABLE, a_host(models={"big": "big"}))
    small_big = BIG.model_copy(update={"upstreams": (an_upstream("big-max", context_tokens=8192),)})
    table = table.model_copy(update={"models": (SMALL, small_big, AFAR)})
    answer = found(Query(model="big", min_context_tokens=9000), table=table)
    assert [target.name for target in answer.choices[0].targets] == ["rig/big"]
    assert refused(Query(model="small", min_context_tokens=9000)).problem.code == "KI807"


def test_a_model_that_nobody_serves_is_not_in_this_profile() -> None:
    assert refused(Query(model="big"), profile="mid").problem.code == "KI806"


@pytest.mark.parametrize("language", ["de", "de-DE", "DE_ch"])
def test_models_that_list_the_language_come_first(language: str) -> None:
    talk = TALK.model_copy(update={"max_cost_tier": None})
    table = TABLE.model_copy(update={"purposes": (talk,)})
    assert ids(found(Query(language=language), table=table)) == ["big", "small", "afar"]
    assert ids(found(Query(language="en"), table=table)) == ["small", "big", "afar"]
    assert ids(found(Query(language="fr"), table=table)) == ["small", "big", "afar"]
    assert ids(found(Query(purpose="fast", language=language))) == ["big", "afar", "small"]


def test_a_language_does_not_lift_another_purpose_before_the_one_asked_for() -> None:
    first = RoutedPurpose(name="first", candidates=("small",), otherwise="second", is_default=True)
    second = RoutedPurpose(name="second", candidates=("big",), otherwise=None, is_default=False)
    table = TABLE.model_copy(update={"purposes": (first, second)})
    assert ids(found(Query(language="de"), table=table)) == ["small", "big"]


def test_scores_are_the_design_documents() -> None:
    by_id = {one.model.id: one.score for one in found(Query(purpose="fast")).considered}
    assert by_id["small"] == (10, 0.4096, -2)
    assert by_id["big"] == (5, 3.2768, -6)
    declared = found(Query()).considered[0].score
    assert declared is not None
    assert declared.specialist == 0
    assert declared.total == pytest.approx(0.4096 - 2)


def test_a_client_uses_only_the_models_it_may() -> None:
    client = a_client(models=("afar",))
    assert ids(found(Query(), client=client)) == ["afar"]
    refusal = refused(Query(model="small"), client=client)
    assert refusal.problem.code == "KI861"
    assert refusal.problem.detail == "Client 'voice' may not use 'small'."


def test_a_client_asks_only_for_the_purposes_it_may() -> None:
    client = a_client(purposes=("fast",))
    assert found(Query(purpose="fast"), client=client).purpose == "fast"
    assert found(Query(model="small"), client=client).purpose is None
    refusal = refused(Query(), client=client)
    assert refusal.problem.code == "KI862"
    assert "It may ask for: fast." in refusal.problem.hint
    assert refused(Query(), client=a_client(purposes=())).problem.hint.startswith("It may ask for: none.")


def a_table_of_class(data_class: str | None) -> RoutingTable:
    model: RoutedModel = SMALL.model_copy(update={"data_class": data_class})
    return TABLE.model_copy(update={"models": (model, AFAR)})


@pytest.mark.parametrize("of_model", [*DATA_CLASSES, None])
@pytest.mark.parametrize("of_client", [*DATA_CLASSES, None])
def test_data_goes_only_to_models_that_may_see_it(of_client: str | None, of_model: str | None) -> None:
    query, client = Query(model="small"), a_client(data_class=of_client)
    answer = candidates(a_table_of_class(of_model), query, profile="max", client=client)
    may = None in (of_client, of_model) or DATA_CLASSES.index(str(of_model)) >= DATA_CLASSES.index(str(of_client))
    if may:
        assert isinstance(answer, Candidates)
    else:
        assert isinstance(answer, Refused)
        assert answer.problem.code == "KI863"
        assert f"'small' ({of_model})" in answer.problem.detail
        assert f"of class {of_client}" in answer.problem.detail


def test_a_class_that_is_not_declared_lets_nothing_through() -> None:
    assert refused(Query(model="small"), table=a_table_of_class("typo"), client=a_client(data_class="public"))


def test_what_could_never_serve_is_listed_as_well() -> None:
    assert [one.obstacle for one in considered(TABLE, Query(model="embed"), profile="max")] == [Obstacle.KIND]
    assert considered(TABLE, Query(model="none such"), profile="max") == ()
    assert refused(Query(model="none such")).problem.code == "KI801"
