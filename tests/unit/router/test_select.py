"""Selection: what each kind of query means, every refusal, and properties over generated tables."""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.routing import RoutedModel, RoutedPersona, RoutedPurpose, RoutingTable
from kloros_infra.router.candidates import candidates
from kloros_infra.router.effects import Target
from kloros_infra.router.query import Query, Refused
from kloros_infra.router.select import Standing, choose
from tests.factories import a_routed_model, a_routed_persona, a_routing_table, an_upstream


class Selected(NamedTuple):
    """A choice as these tests look at it."""

    model: RoutedModel
    target: Target
    persona: RoutedPersona | None
    reason: str


Decision = Selected | Refused


def select(table: RoutingTable, query: Query, *, profile: str, ready: Set[str]) -> Decision:
    """Choose among the instances that are ready; the others cannot be started."""

    def standing(target: Target) -> Standing:
        return Standing(target.name, "any", why_not=None if target.name in ready else "not ready")

    found = candidates(table, query, profile=profile)
    chosen = found if isinstance(found, Refused) else choose(found, standing)
    if isinstance(chosen, Refused) or isinstance(found, Refused):
        assert isinstance(chosen, Refused)
        return chosen
    return Selected(chosen.candidate.model, chosen.target, found.persona, chosen.reason)


CODER = a_routed_model(
    "qwen2.5-coder-7b-q4_0",
    an_upstream("code-max", port=8601, context_tokens=32000),
    an_upstream("code-mid", port=8602, context_tokens=8000),
    name="code",
    aliases=("qwen2.5-coder:7b",),
    purpose_tags=("code_understanding", "code_generation"),
    context_tokens=32000,
    cost_tier=CostTier.MEDIUM,
)
BIG_CODER = a_routed_model(
    "qwen2.5-coder-32b",
    an_upstream("code32-max", port=8611, context_tokens=16000),
    name="code32",
    purpose_tags=("code_understanding",),
    context_tokens=16000,
    cost_tier=CostTier.HIGH,
)
CHAT = a_routed_model(
    "qwen2.5-7b-instruct",
    an_upstream("chat-max", port=8621, context_tokens=32000),
    an_upstream("chat-mid", port=8622, context_tokens=32000),
    name="chat",
    aliases=("qwen2.5:7b", "main:latest"),
    purpose_tags=("fast", "code_generation"),
    context_tokens=32000,
)
EMBED = a_routed_model(
    "nomic-embed-text",
    an_upstream("embed-mid", port=8632),
    name="embed",
    kind=ModelKind.EMBEDDING,
    purpose_tags=("rag",),
)
DOCTOR = a_routed_persona(
    id="kairos-code-doctor", model_id=CODER.id, system_prompt="Cite lines.", sampling={"temperature": 0.2}, stop=()
)


def a_purpose(
    name: str, *candidates: RoutedModel, otherwise: str | None = None, default: bool = False
) -> RoutedPurpose:
    ids = tuple(model.id for model in candidates)
    return RoutedPurpose(name=name, candidates=ids, otherwise=otherwise, is_default=default)


TABLE = a_routing_table(
    CODER,
    BIG_CODER,
    CHAT,
    EMBED,
    profiles=("max", "mid"),
    personas=(DOCTOR,),
    purposes=(
        a_purpose("code_understanding", BIG_CODER, CODER, otherwise="fast"),
        a_purpose("fast", CHAT, otherwise="code_understanding", default=True),
    ),
)
EVERYTHING = {upstream.instance for model in TABLE.models for upstream in model.upstreams}


def ask(query: Query, *, table: RoutingTable = TABLE, profile: str = "max", ready: Set[str] = EVERYTHING) -> Decision:
    return select(table, query, profile=profile, ready=ready)


def selected(decision: Decision) -> Selected:
    assert isinstance(decision, Selected), decision
    return decision


def refused(decision: Decision, code: str) -> Refused:
    assert isinstance(decision, Refused), decision
    assert decision.problem.code == code
    return decision


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("qwen2.5-coder-7b-q4_0", CODER),
        ("code", CODER),
        ("code:latest", CODER),
        ("qwen2.5-coder:7b", CODER),
        ("main", CHAT),
        ("main:latest", CHAT),
    ],
)
def test_a_model_is_found_by_id_name_and_alias_in_ollamas_spellings(asked: str, model: RoutedModel) -> None:
    found = selected(ask(Query(model=asked)))
    assert found.model == model
    assert asked in found.reason


def test_an_id_outranks_a_name_and_a_name_an_alias() -> None:
    by_id = a_routed_model("x", an_upstream("a-max"), name="a")
    by_name = a_routed_model("b", an_upstream("x-max"), name="x")
    by_alias = a_routed_model("c", an_upstream("c-max"), aliases=("x",))
    table = a_routing_table(by_alias, by_name, by_id)
    ready = {"a-max", "x-max", "c-max"}
    assert selected(ask(Query(model="x"), table=table, ready=ready)).model == by_id
    table = a_routing_table(by_alias, by_name)
    assert selected(ask(Query(model="x"), table=table, ready=ready)).model == by_name


@pytest.mark.parametrize("query", [Query(persona="kairos-code-doctor"), Query(model="kairos-code-doctor:latest")])
def test_a_persona_brings_its_base_model(query: Query) -> None:
    found = selected(ask(query))
    assert (found.model, found.persona) == (CODER, DOCTOR)
    assert "kairos-code-doctor" in found.reason


def test_a_persona_can_be_tried_on_another_model() -> None:
    found = selected(ask(Query(persona="kairos-code-doctor", model="chat")))
    assert (found.model, found.persona) == (CHAT, DOCTOR)


def test_a_named_model_outranks_the_purpose() -> None:
    assert selected(ask(Query(purpose="code_understanding", model="chat"))).model == CHAT


def test_a_declared_purpose_is_served_in_its_own_order_whatever_the_score() -> None:
    found = selected(ask(Query(purpose="code_understanding")))
    assert found.model == BIG_CODER
    assert found.reason == "'qwen2.5-coder-32b' is choice 1 of 3 for purpose 'code_understanding'."


def test_a_purpose_falls_back_in_order_and_says_what_it_passed_over() -> None:
    found = selected(ask(Query(purpose="code_understanding"), profile="mid", ready={"chat-mid"}))
    assert found.model == CHAT
    assert found.reason == (
        "'qwen2.5-7b-instruct' is choice 3 of 3 for purpose 'code_understanding', after "
        "'qwen2.5-coder-32b' (not in this profile), 'qwen2.5-coder-7b-q4_0' (not ready)."
    )


def test_otherwise_may_go_round_in_a_circle() -> None:
    refused(ask(Query(purpose="fast"), ready=set()), "KI809")


def test_otherwise_may_name_a_tag_and_candidates_may_be_missing() -> None:
    purpose = RoutedPurpose(name="p", candidates=("gone",), otherwise="fast", is_default=False)
    table = a_routing_table(CHAT, purposes=(purpose,))
    assert selected(ask(Query(purpose="p"), table=table)).model == CHAT


def test_an_undeclared_purpose_takes_all_models_with_that_tag_by_score() -> None:
    # As second tag both score 5 + 3.2; the lower cost tier wins.
    assert selected(ask(Query(purpose="code_generation"))).model == CHAT
    table = a_routing_table(CODER, BIG_CODER, CHAT, purposes=())
    # 10 + 3.2 - 4 against 10 + 1.6 - 6.
    assert selected(ask(Query(purpose="code_understanding"), table=table)).model == CODER


def test_a_specialist_outranks_a_generalist() -> None:
    generalist = a_routed_model("g", an_upstream("g-max"), purpose_tags=("chat", "sql"), context_tokens=40000)
    specialist = a_routed_model("s", an_upstream("s-max"), purpose_tags=("sql",), context_tokens=2000)
    table = a_routing_table(generalist, specialist, purposes=())
    assert selected(ask(Query(purpose="sql"), table=table, ready={"g-max", "s-max"})).model == specialist


def test_asking_nothing_takes_the_default_purpose() -> None:
    found = selected(ask(Query()))
    assert found.model == CHAT
    assert "default purpose 'fast'" in found.reason


def test_asking_nothing_without_a_default_is_refused() -> None:
    table = a_routing_table(CHAT, purposes=())
    assert CHAT.id in refused(ask(Query(), table=table), "KI804").problem.hint


def test_an_unknown_model_is_refused_with_the_closest_name() -> None:
    assert refused(ask(Query(model="qwen2.5-coder:14b")), "KI801").problem.hint == "Did you mean 'qwen2.5-coder:7b'?"


def test_an_unknown_model_like_no_other_is_refused_with_all_names() -> None:
    hint = refused(ask(Query(model="zzz")), "KI801").problem.hint
    assert "nomic-embed-text" in hint
    assert "kairos-code-doctor" in hint


def test_an_unknown_persona_is_refused_with_the_closest_name() -> None:
    hint = refused(ask(Query(persona="kairos-code-docter")), "KI802").problem.hint
    assert hint == "Did you mean 'kairos-code-doctor'?"


def test_a_persona_whose_model_left_the_table_is_refused() -> None:
    table = a_routing_table(CHAT, personas=(DOCTOR,))
    refused(ask(Query(persona=DOCTOR.id), table=table), "KI801")


def test_an_unknown_purpose_is_refused_with_the_closest_name() -> None:
    hint = refused(ask(Query(purpose="code_generaton")), "KI803").problem.hint
    assert hint == "Did you mean 'code_generation'?"


def test_a_table_without_anything_refuses_in_words() -> None:
    table = a_routing_table(CHAT, purposes=()).model_copy(update={"models": ()})
    assert refused(ask(Query(model="x"), table=table), "KI801").problem.hint == "Known models: none."


def test_the_wrong_kind_is_refused() -> None:
    refused(ask(Query(model="embed"), profile="mid"), "KI805")
    refused(ask(Query(kind=ModelKind.EMBEDDING, model="chat")), "KI805")
    assert selected(ask(Query(kind=ModelKind.EMBEDDING, purpose="rag"), profile="mid")).model == EMBED


def test_a_model_without_an_instance_in_the_profile_is_refused_with_the_profiles_that_have_it() -> None:
    decision = refused(ask(Query(model="code32"), profile="mid"), "KI806")
    assert "max" in decision.problem.hint
    assert not decision.is_temporary


def test_too_much_context_is_refused_with_the_best_figure() -> None:
    decision = refused(ask(Query(purpose="code_understanding", min_context_tokens=64000)), "KI807")
    assert "32000" in decision.problem.detail
    assert selected(ask(Query(purpose="code_understanding", min_context_tokens=20000))).model == CODER


def test_the_context_under_the_active_profile_counts() -> None:
    decision = refused(ask(Query(model="code", min_context_tokens=9000), profile="mid"), "KI807")
    assert "the best available is 8000 ('qwen2.5-coder-7b-q4_0')" in decision.problem.detail
    # By tag, 32000 tokens against 8000 outweigh the speciality only under mid.
    assert selected(ask(Query(purpose="code_generation"), profile="max")).model == CHAT
    wide = CODER.model_copy(update={"cost_tier": CostTier.LOW, "purpose_tags": ("code_generation",)})
    narrow = wide.model_copy(update={"id": "narrow", "name": "narrow", "aliases": ()})
    narrow = narrow.model_copy(
        update={"upstreams": (an_upstream("narrow-max"), an_upstream("narrow-mid", context_tokens=9000))}
    )
    table = a_routing_table(narrow, wide, purposes=())
    ready = {"code-max", "code-mid", "narrow-max", "narrow-mid"}
    for profile, expected in (("max", wide), ("mid", narrow)):
        decision_by_tag = select(table, Query(purpose="code_generation"), profile=profile, ready=ready)
        assert isinstance(decision_by_tag, Selected)
        assert decision_by_tag.model == expected


SEEING = a_routed_model("gemma3-4b", an_upstream("see-max"), name="see", kind=ModelKind.VISION)
RANKING = a_routed_model("bge-reranker", an_upstream("rank-max"), name="rank", kind=ModelKind.RERANK)
SENSES = a_routing_table(
    CHAT,
    SEEING,
    RANKING,
    EMBED,
    purposes=(RoutedPurpose(name="any", candidates=(CHAT.id, SEEING.id, RANKING.id), otherwise=None, is_default=True),),
)


@pytest.mark.parametrize(
    ("kind", "serving"), [(ModelKind.CHAT, CHAT), (ModelKind.VISION, SEEING), (ModelKind.RERANK, RANKING)]
)
def test_a_purpose_gives_what_is_asked_for(kind: ModelKind, serving: RoutedModel) -> None:
    decision = select(SENSES, Query(kind), profile="max", ready={"chat-max", "see-max", "rank-max"})

    assert isinstance(decision, Selected)
    assert decision.model == serving


def test_a_model_that_sees_chats_as_well_and_no_other_sees() -> None:
    def answer(kind: ModelKind | None, model: str) -> Decision:
        return select(SENSES, Query(kind, model=model), profile="max", ready={"chat-max", "see-max", "rank-max"})

    assert selected(answer(ModelKind.CHAT, "see")).model == SEEING
    assert selected(answer(None, "rank")).model == RANKING
    for kind, model in ((ModelKind.VISION, "chat"), (ModelKind.CHAT, "rank"), (ModelKind.RERANK, "see")):
        decision = refused(answer(kind, model), "KI805")
        assert f"needs a model of kind {kind}" in decision.problem.detail


def test_a_purpose_without_a_model_here_is_not_unknown() -> None:
    empty = RoutedPurpose(name="far", candidates=(), otherwise=None, is_default=False)
    onward = RoutedPurpose(name="near", candidates=(), otherwise="chat", is_default=False)
    chat = RoutedPurpose(name="chat", candidates=(CHAT.id,), otherwise=None, is_default=True)
    table = a_routing_table(CHAT, purposes=(empty, onward, chat))

    def answer(purpose: str) -> Decision:
        return select(table, Query(purpose=purpose), profile="max", ready={"chat-max"})

    assert "serves the purpose 'far'" in refused(answer("far"), "KI806").problem.detail
    assert selected(answer("near")).model == CHAT


def test_a_persona_answers_to_its_aliases() -> None:
    persona = a_routed_persona("doctor", model_id=CODER.id, aliases=("code-doctor:latest", "chat"))
    table = a_routing_table(CODER, CHAT, personas=(persona,))

    def answer(**asked: str) -> Decision:
        return select(table, Query(**asked), profile="max", ready={"code-max", "chat-max"})  # type: ignore[arg-type]

    assert selected(answer(model="code-doctor")).persona == persona
    assert selected(answer(persona="code-doctor:latest")).model == CODER
    # A model's own name is never hidden.
    assert selected(answer(model="chat")).persona is None
    assert refused(answer(persona="code-docter"), "KI802").problem.hint == "Did you mean 'code-doctor:latest'?"


def test_too_cheap_is_refused_with_the_cheapest_tier() -> None:
    decision = refused(ask(Query(model="code", cost_tier=CostTier.LOW)), "KI808")
    assert decision.problem.hint == "Allow cost_tier medium."
    assert selected(ask(Query(purpose="code_understanding", cost_tier=CostTier.MEDIUM))).model == CODER


def test_an_instance_that_is_not_ready_is_refused_for_now() -> None:
    decision = refused(ask(Query(model="code"), ready=set()), "KI809")
    assert decision.is_temporary
    assert "'code-max' (not ready)" in decision.problem.detail


NAMES = st.sampled_from(["a", "b", "c", "d"])
TAGS = st.sampled_from(["fast", "code", "deep"])
PROFILES = ("max", "mid")


@st.composite
def models(draw: st.DrawFn, id: str) -> RoutedModel:
    profiles = draw(st.sets(st.sampled_from(PROFILES), min_size=1))
    return a_routed_model(
        id,
        *(
            an_upstream(f"{id}-{profile}", context_tokens=draw(st.integers(256, 100_000)))
            for profile in sorted(profiles)
        ),
        kind=draw(st.sampled_from(ModelKind)),
        purpose_tags=tuple(draw(st.lists(TAGS, min_size=1, max_size=3, unique=True))),
        context_tokens=draw(st.integers(256, 100_000)),
        cost_tier=draw(st.sampled_from(CostTier)),
    )


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    ids = draw(st.lists(NAMES, min_size=1, unique=True))
    purposes = st.builds(
        RoutedPurpose,
        name=TAGS,
        candidates=st.lists(NAMES, min_size=1, unique=True).map(tuple),
        otherwise=st.none() | TAGS,
        is_default=st.booleans(),
    )
    declared = draw(st.lists(purposes, max_size=3, unique_by=lambda purpose: purpose.name))
    persona = a_routed_persona(id="p", model_id=ids[0], system_prompt="", sampling={}, stop=())
    return a_routing_table(
        *(draw(models(id)) for id in ids), profiles=PROFILES, personas=(persona,), purposes=tuple(declared)
    )


QUERIES = st.builds(
    Query,
    kind=st.none() | st.sampled_from(ModelKind),
    purpose=st.none() | TAGS | st.just("unheard_of"),
    model=st.none() | NAMES | st.just("p"),
    persona=st.none() | st.sampled_from(["p", "q"]),
    min_context_tokens=st.none() | st.integers(1, 120_000),
    cost_tier=st.none() | st.sampled_from(CostTier),
)
READY = st.sets(st.builds(lambda name, profile: f"{name}-{profile}", NAMES, st.sampled_from(PROFILES)))


@given(tables(), QUERIES, st.sampled_from(PROFILES), READY)
def test_what_is_selected_meets_every_constraint(
    table: RoutingTable, query: Query, profile: str, ready: frozenset[str]
) -> None:
    decision = select(table, query, profile=profile, ready=ready)
    assert decision == select(table, query, profile=profile, ready=ready)
    if isinstance(decision, Selected):
        model = decision.model
        assert model.kind is query.kind or (query.kind is ModelKind.CHAT and model.kind.can_chat) or not query.kind
        upstream = model.upstream(profile)
        assert upstream is not None
        assert decision.target.name == upstream.instance
        assert upstream.instance in ready
        assert upstream.context_tokens >= (query.min_context_tokens or 0)
        assert query.cost_tier is None or model.cost_tier.rank <= query.cost_tier.rank


@given(tables(), QUERIES, st.sampled_from(PROFILES), READY)
def test_a_temporary_refusal_ends_when_everything_is_ready(
    table: RoutingTable, query: Query, profile: str, ready: frozenset[str]
) -> None:
    all_ready = {upstream.instance for model in table.models for upstream in model.upstreams}
    before = select(table, query, profile=profile, ready=ready & all_ready)
    after = select(table, query, profile=profile, ready=all_ready)
    if isinstance(before, Refused):
        assert before.is_temporary == isinstance(after, Selected)
    else:
        assert isinstance(after, Selected)


@given(tables(), QUERIES, st.sampled_from(PROFILES), READY)
def test_asking_for_less_never_loses_an_answer(
    table: RoutingTable, query: Query, profile: str, ready: frozenset[str]
) -> None:
    if isinstance(select(table, query, profile=profile, ready=ready), Selected):
        for looser in (query._replace(min_context_tokens=None), query._replace(cost_tier=None)):
            assert isinstance(select(table, looser, profile=profile, ready=ready), Selected)
