"""The choice among candidates, by how their targets stand now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import CostTier
from kloros_infra.ir.routing import RoutedPurpose
from kloros_infra.router.candidates import Candidates, candidates
from kloros_infra.router.effects import Target
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import PLAIN, Ask, Chosen, Standing, choose
from kloros_infra.router.tokens import cannot_fit, likely_fits
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.routed import a_host, served_by

GOOD = a_routed_model("good", an_upstream("good-max", context_tokens=8000), context_tokens=8000)
FAIR = a_routed_model("fair", an_upstream("fair-max", context_tokens=2000), context_tokens=2000)
DEAR = a_routed_model("dear", an_upstream("dear-max"), cost_tier=CostTier.HIGH)
TABLE = served_by(
    a_routing_table(
        GOOD,
        DEAR,
        FAIR,
        purposes=(RoutedPurpose(name="p", candidates=("good", "dear", "fair"), otherwise=None, is_default=True),),
    ),
    a_host(models={"good": "g"}, priority=60),
)
TARGETS = ("good-max", "rig/good", "fair-max")


def candidates_of(query: Query) -> Candidates:
    found = candidates(TABLE, query, profile="max")
    assert isinstance(found, Candidates)
    return found


FOUND = candidates_of(Query(cost_tier=CostTier.LOW))

READY = Standing("", "ready")
WAITING = Standing("", "loading", is_waiting=True)
DOWN = Standing("", "open", why_not="its breaker is open")


def standing(**told: Standing) -> Callable[[Target], Standing]:
    """Say how targets stand: `good`, `rig` and `fair`; all are ready unless said otherwise."""
    names = dict(zip(("good", "rig", "fair"), TARGETS, strict=True))
    by_name = {names[key]: value for key, value in told.items()}
    return lambda target: by_name.get(target.name, READY)._replace(target=target.name)


def chosen(found: Candidates = FOUND, ask: Ask = PLAIN, **told: Standing) -> Chosen:
    answer = choose(found, standing(**told), ask)
    assert isinstance(answer, Chosen), answer
    return answer


def refused(found: Candidates = FOUND, ask: Ask = PLAIN, **told: Standing) -> Refused:
    answer = choose(found, standing(**told), ask)
    assert isinstance(answer, Refused), answer
    return answer


def test_the_first_target_of_the_first_candidate_serves() -> None:
    answer = chosen()
    assert answer.target.name == "good-max"
    assert answer.reason == "'good' is choice 1 of 3 for the default purpose 'p'."


def test_a_target_without_a_wait_goes_before_one_with() -> None:
    answer = chosen(good=WAITING)
    assert answer.target.name == "rig/good"
    assert answer.reason == (
        "'good' is choice 1 of 3 for the default purpose 'p'. It goes to 'rig/good', after 'good-max' (a wait)."
    )


def test_a_better_model_is_worth_a_wait() -> None:
    assert chosen(good=WAITING, rig=WAITING).target.name == "good-max"


def test_what_cannot_serve_is_passed_over() -> None:
    answer = chosen(good=DOWN)
    assert answer.target.name == "rig/good"
    assert answer.reason.endswith("after 'good-max' (its breaker is open).")
    answer = chosen(good=DOWN, rig=DOWN._replace(why_not="switched off"))
    assert answer.target.name == "fair-max"
    assert answer.reason == (
        "'fair' is choice 3 of 3 for the default purpose 'p', after 'good' (its breaker is open), 'dear' (too costly)."
    )


def test_another_target_is_tried_before_the_same_one() -> None:
    assert chosen(ask=Ask(tried={"good-max"})).target.name == "rig/good"
    answer = chosen(ask=Ask(tried={"good-max", "rig/good"}))
    assert answer.target.name == "fair-max"
    assert "after 'good' (tried before), 'dear'" in answer.reason
    assert chosen(ask=Ask(tried=set(TARGETS))).target.name == "good-max"
    assert chosen(ask=Ask(tried={"good-max"}), rig=DOWN, fair=DOWN).target.name == "good-max"


def test_a_session_goes_where_its_cache_is() -> None:
    assert chosen(ask=Ask(session_target="good-max")).reason == "'good' is choice 1 of 3 for the default purpose 'p'."
    answer = chosen(ask=Ask(session_target="fair-max"))
    assert answer.target.name == "fair-max"
    assert "after 'good' (not where its session is)" in answer.reason
    assert answer.reason.endswith("Its session was served by 'fair-max' before.")
    assert chosen(ask=Ask(session_target="rig/good")).reason.endswith("Its session was served by 'rig/good' before.")


def test_a_session_waits_for_its_cache_but_not_for_what_is_gone() -> None:
    assert chosen(ask=Ask(session_target="rig/good"), rig=WAITING).target.name == "rig/good"
    assert chosen(ask=Ask(session_target="rig/good"), rig=DOWN).target.name == "good-max"
    assert chosen(ask=Ask(session_target="forgotten")).target.name == "good-max"
    assert chosen(ask=Ask(session_target="good-max", tried={"good-max"})).target.name == "rig/good"


def test_a_prompt_that_likely_does_not_fit_goes_where_it_does() -> None:
    fair_first = candidates(
        TABLE.model_copy(
            update={
                "purposes": (RoutedPurpose(name="p", candidates=("fair", "good"), otherwise=None, is_default=True),)
            }
        ),
        Query(),
        profile="max",
    )
    assert isinstance(fair_first, Candidates)
    assert chosen(fair_first, Ask(1999)).target.name == "fair-max"
    answer = chosen(fair_first, Ask(2000))
    assert answer.target.name == "good-max"
    assert answer.reason.endswith("after 'fair' (prompt too long).")


def test_an_estimate_alone_refuses_nothing_that_may_fit() -> None:
    answer = chosen(ask=Ask(9000))
    assert answer.target.name == "good-max"
    assert answer.reason.endswith("No other would do better: prompt too long.")


def test_what_fits_in_no_vocabulary_is_refused_at_once() -> None:
    answer = refused(ask=Ask(100_000))
    assert answer.problem.code == "KI807"
    assert not answer.is_temporary
    assert answer.problem.detail == (
        "The request has about 100000 tokens; the best available context is 8000 ('good-max')."
    )


def test_a_host_that_says_no_context_takes_any_prompt() -> None:
    unknown = FOUND.choices[0].targets[1]._replace(context_tokens=0)
    choice = FOUND.choices[0]._replace(targets=(unknown,))
    assert chosen(FOUND._replace(choices=(choice,)), Ask(10**6)).target == unknown


HASTY = candidates_of(Query(cost_tier=CostTier.LOW, max_latency_s=2.0))


def test_a_target_that_is_likely_too_slow_is_passed_over() -> None:
    slow = Standing("", "loading", is_waiting=True, wait_s=10.0)
    answer = chosen(HASTY, good=slow, rig=slow)
    assert answer.target.name == "fair-max"
    assert "after 'good' (too slow now)" in answer.reason


def test_no_time_at_all_takes_the_quickest() -> None:
    found = candidates_of(Query(max_latency_s=0.0))
    assert chosen(found).target.name == "good-max"
    assert chosen(found, good=Standing("", "loading", wait_s=0.5)).target.name == "rig/good"


def test_reading_a_long_prompt_takes_time_too() -> None:
    plodding = Standing("", "ready", prefill_tokens_per_s=100.0)
    assert chosen(HASTY, Ask(150), good=plodding).target.name == "good-max"
    assert chosen(HASTY, Ask(250), good=plodding).target.name == "rig/good"


def test_the_quickest_serves_where_none_is_quick_enough() -> None:
    """A purpose's latency must not keep its models from ever being started."""

    def slow(wait_s: float) -> Standing:
        return Standing("", "stopped", wait_s=wait_s)

    answer = chosen(HASTY, good=slow(20.0), rig=slow(9.0), fair=slow(10.0))
    assert answer.target.name == "rig/good"
    assert answer.reason.endswith(
        "It goes to 'rig/good', after 'good-max' (too slow now). No other would do better: too slow now."
    )


def test_a_refusal_says_what_is_against_each() -> None:
    answer = refused(good=DOWN, rig=DOWN._replace(why_not="switched off"), fair=DOWN)
    assert answer.problem.code == "KI809"
    assert answer.is_temporary
    assert answer.problem.detail == (
        "None of those that could serve the request can now: 'good-max' (its breaker is open), "
        "'rig/good' (switched off), 'fair-max' (its breaker is open)."
    )


def test_a_refusal_is_for_ever_where_time_mends_nothing() -> None:
    failed = Standing("", "failed", why_not="it failed to load", is_final=True)
    assert not refused(good=failed, rig=failed, fair=failed).is_temporary
    assert refused(good=failed, rig=DOWN, fair=failed).is_temporary
    # A prompt that fits nowhere else waits for the breaker.
    assert refused(ask=Ask(20_000), good=DOWN, rig=failed).is_temporary
    assert not refused(ask=Ask(20_000), good=failed, rig=failed).is_temporary


STANDINGS = st.builds(
    Standing,
    target=st.just(""),
    state=st.just("any"),
    is_waiting=st.booleans(),
    why_not=st.none() | st.just("down"),
    is_final=st.booleans(),
    wait_s=st.sampled_from((0.0, 1.0, 5.0)),
    prefill_tokens_per_s=st.none() | st.just(1000.0),
)
ASKS = st.builds(
    Ask,
    tokens=st.sampled_from((0, 10, 1999, 2000, 7999, 8000, 30_000, 40_000)),
    session_target=st.none() | st.sampled_from((*TARGETS, "gone")),
    tried=st.sets(st.sampled_from(TARGETS)),
)


@given(
    found=st.sampled_from((FOUND, HASTY)),
    stands=st.fixed_dictionaries(dict.fromkeys(TARGETS, STANDINGS)),
    ask=ASKS,
)
def test_whatever_is_chosen_can_serve_and_nothing_better_was_left(
    found: Candidates, stands: Mapping[str, Standing], ask: Ask
) -> None:
    def stand(target: Target) -> Standing:
        return stands[target.name]._replace(target=target.name)

    answer = choose(found, stand, ask)
    able = [
        target
        for candidate in found.choices
        for target in candidate.targets
        if stand(target).why_not is None and not cannot_fit(ask.tokens, target.context_tokens)
    ]
    if isinstance(answer, Refused):
        assert not able
        return
    target = answer.target
    assert target in able
    assert answer.reason.startswith(f"'{answer.candidate.model.id}' is choice {answer.candidate.place} of 3")
    untried = [one for one in able if one.name not in ask.tried]
    assert not untried or target in untried
    if found is FOUND and not likely_fits(ask.tokens, target.context_tokens):
        assert all(one.context_tokens <= target.context_tokens for one in (untried or able))
    assert choose(found, stand, ask) == answer


@pytest.mark.parametrize("ask", [Ask(), Ask(7999), Ask(session_target="good-max")])
def test_the_usual_case_looks_at_one_target(ask: Ask) -> None:
    looked: list[str] = []

    def stand(target: Target) -> Standing:
        looked.append(target.name)
        return READY

    assert isinstance(choose(FOUND, stand, ask), Chosen)
    assert looked == ["good-max"]
