"""The explanation of a decision, as text and as data."""

from __future__ import annotations

from kloros_infra.ir.catalog import CostTier
from kloros_infra.ir.routing import RoutedClient, RoutedPurpose
from kloros_infra.router.effects import Target
from kloros_infra.router.explain import Explanation, Situation, explain, explanation_data, explanation_lines
from kloros_infra.router.query import Query
from kloros_infra.router.select import PLAIN, Ask, Standing
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, an_upstream
from tests.routed import a_client, a_host, served_by

SMALL = a_routed_model("small", an_upstream("small-max", context_tokens=5000))
BIG = a_routed_model("big", an_upstream("big-max", port=8611), cost_tier=CostTier.HIGH)
TABLE = served_by(
    a_routing_table(
        BIG,
        SMALL,
        personas=(a_routed_persona("pirate", model_id="small"),),
        purposes=(
            RoutedPurpose(
                name="talk", candidates=("big", "small"), otherwise=None, is_default=True, max_cost_tier=CostTier.LOW
            ),
        ),
    ),
    a_host(models={"small": "tiny"}, priority=60),
)


def at_work(target: Target) -> Standing:
    if target.is_local:
        return Standing(target.name, "ready", is_waiting=True, in_flight=2, limit=2, queued=3, wait_s=4.5)
    return Standing(target.name, "off", why_not="switched off")


def explained(query: Query, client: RoutedClient | None = None, ask: Ask = PLAIN) -> Explanation:
    return explain(TABLE, query, Situation("max", at_work, client, ask))


def test_text_shows_candidates_scores_targets_and_the_choice() -> None:
    assert list(explanation_lines(explained(Query(max_latency_s=9.0), a_client()))) == [
        "Profile 'max', client 'voice', priority interactive, first token within 9 s, by the default purpose 'talk'.",
        "1. big: too costly",
        "   score -5.8: specialist 0, context 0.2, cost -6",
        "   big-max at 127.0.0.1:8611, ready, 2 of 2 at work, 3 waiting, 4.5 s to wait",
        "2. small",
        "   score -1.5: specialist 0, context 0.5, cost -2",
        "   small-max at 127.0.0.1:8601, ready, 2 of 2 at work, 3 waiting, 4.5 s to wait",
        "   rig/small at 192.0.2.7:11434, off: switched off",
        "Goes to small-max: 'small' is choice 2 of 2 for the default purpose 'talk', after 'big' (too costly).",
    ]


def test_a_refusal_shows_what_was_looked_at_and_what_would_help() -> None:
    lines = list(explanation_lines(explained(Query(model="big", cost_tier=CostTier.LOW))))
    assert lines[0] == "Profile 'max'."
    assert lines[1] == "1. big: too costly"
    assert lines[-2].startswith("Refused until something changes: KI808 Too costly. ")
    assert lines[-1] == "  Allow cost_tier high."


def test_a_refusal_for_now_is_called_so() -> None:
    found = explain(
        TABLE, Query(model="small"), Situation("max", lambda target: Standing(target.name, "x", why_not="y"))
    )
    assert "Refused for now: KI809" in "\n".join(explanation_lines(found))


def test_data_says_the_same() -> None:
    data = explanation_data(explained(Query(persona="pirate")))
    assert (data["version"], data["profile"], data["client"], data["purpose"]) == (1, "max", None, None)
    assert (data["persona"], data["priority"]) == ("pirate", "interactive")
    assert data["meaning"] == "the name 'small' under persona 'pirate'"
    (candidate,) = data["candidates"]
    assert (candidate["model"], candidate["obstacle"], candidate["score"]) == ("small", None, None)
    assert [target["target"] for target in candidate["targets"]] == ["small-max", "rig/small"]
    assert candidate["targets"][0]["queued"] == 3
    assert data["chosen"] == {
        "model": "small",
        "target": "small-max",
        "reason": "'small' is what the name 'small' under persona 'pirate' means.",
    }
    assert data["refused"] is None


def test_data_of_a_refusal_has_the_diagnostic() -> None:
    data = explanation_data(explained(Query(), a_client(models=())))
    assert data["chosen"] is None
    assert data["meaning"] is None
    assert [candidate["obstacle"] for candidate in data["candidates"]] == ["not for this client"] * 2
    assert data["candidates"][0]["score"]["total"] < 0
    assert data["refused"]["code"] == "KI861"
    assert data["refused"]["is_temporary"] is False
