"""Scenarios for the simulated machine: drawn from a seed, or by hypothesis, from the same building blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random

from kloros_infra.ir.requests import Priority, UpstreamKind
from kloros_infra.ir.routing import (
    RoutedBridge,
    RoutedBus,
    RoutedCapacity,
    RoutedClient,
    RoutedHost,
    RoutedModel,
    RoutedPolicies,
    RoutedProfile,
    RoutedPurpose,
    RoutedShare,
    RoutingTable,
    Upstream,
)
from kloros_infra.router.events import Outcome
from kloros_infra.router.lease import Lease
from kloros_infra.router.query import Query
from tests.factories import a_routed_model
from tests.unit.router.simulated_steps import (
    Ask,
    Card,
    Foreign,
    HostIs,
    Leave,
    Operator,
    Process,
    Profile,
    Scenario,
    Step,
    Table,
)

CAPACITY_MIB = 10_000
MODELS = ("alpha", "beta", "gamma", "delta")
PROFILES = ("max", "mid")
HOSTS = ("east", "west")
INSTANCES = tuple(f"{model}-{profile}" for model in MODELS for profile in PROFILES)
CLIENTS = ("anyone", "few", "voice")
PURPOSES = (
    Query(purpose="code"),
    Query(purpose="chat"),
    Query(purpose="talk"),
    Query(),
)
SECONDS = (0.01, 0.05, 0.3, 1.0, 3.0)
DEADLINES_S = (0.5, 2.0, 6.0, 15.0)
PAUSES_S = (0.0, 0.0, 0.0, 0.01, 0.05, 0.3, 1.0, 3.0)
OUTCOMES = (
    *([Outcome.SERVED] * 12),
    Outcome.REFUSED,
    Outcome.UNAVAILABLE,
    Outcome.BUSY,
    Outcome.LOADING,
    Outcome.SILENT,
    Outcome.STALLED,
    Outcome.BROKEN,
)
FOREIGN_MIB = (0, 0, 2000, 7000, 12_000)
CARD_STATES = ("open", "open", "taken", "closed")
VARIANTS = 48


@cache
def a_table(variant: int) -> RoutingTable:
    """Build one of the tables: their models differ in size, number of slots, group, pin, hosts and definition."""
    chance = Random(variant)  # noqa: S311  # a scenario is drawn, not a secret
    count = chance.randint(1, 4)
    models = tuple(_model(name, chance) for name in MODELS[:count])
    ids = [model.id for model in models]
    purposes = (
        RoutedPurpose(name="code", candidates=tuple(ids), otherwise=None, is_default=False),
        RoutedPurpose(
            name="chat",
            candidates=tuple(reversed(ids)),
            otherwise=None,
            is_default=True,
            max_latency_s=chance.choice((None, 2.0)),
            can_continue_elsewhere=True,
        ),
        RoutedPurpose(name="talk", candidates=(ids[0],), otherwise=None, is_default=False, priority=Priority.VOICE),
    )
    return RoutingTable(
        version=2,
        profiles=tuple(RoutedProfile(name=name, cards=()) for name in PROFILES),
        profile_file="/run/kloros/gpu_profile",
        models=models,
        personas=(),
        purposes=purposes,
        bus=RoutedBus(xsub="tcp://127.0.0.1:5556", xpub="tcp://127.0.0.1:5557"),
        bridge=RoutedBridge(
            host="127.0.0.1", ports=(11434,), max_queued=chance.choice((2, 16)), first_byte_timeout_s=8.0
        ),
        capacities=(RoutedCapacity(card="one", mib=CAPACITY_MIB), RoutedCapacity(card="two", mib=CAPACITY_MIB)),
        hosts=tuple(_host(name, ids, chance) for name in HOSTS[: chance.choice((0, 0, 1, 2))]),
        policies=RoutedPolicies(
            clients=(
                _client("few", max_queued=1, per_minute=chance.choice((None, 30))),
                _client("voice", priority=Priority.VOICE),
            )
        ),
    )


def _model(name: str, chance: Random) -> RoutedModel:
    upstreams = tuple(_upstream(f"{name}-{profile}", chance) for profile in PROFILES if chance.random() < 0.85)
    if upstreams and chance.random() < 0.25:
        upstreams = tuple(upstreams[0].model_copy(update={"profile": profile}) for profile in PROFILES)
    elif len(upstreams) == len(PROFILES) and _are_apart(*upstreams) and chance.random() < 0.8:
        names = tuple(upstream.instance for upstream in reversed(upstreams))
        upstreams = tuple(u.model_copy(update={"beside": (n,)}) for u, n in zip(upstreams, names, strict=True))
    model = a_routed_model(name, *upstreams, purpose_tags=("code", "chat"))
    return model.model_copy(update={"upstreams": upstreams, "group": chance.choice((None, None, None, "large"))})


def _are_apart(one: Upstream, other: Upstream) -> bool:
    """Say whether both take cards, and none that the other takes."""
    cards, others = ({share.card for share in upstream.shares} for upstream in (one, other))
    return bool(cards and others) and cards.isdisjoint(others)


@cache
def a_changed_table(variant: int, other: int) -> RoutingTable:
    """Build a table of which the first model is another table's, and the rest is as before."""
    table, news = a_table(variant), a_table(other)
    return table.model_copy(update={"models": (news.models[0], *table.models[1:])})


def _upstream(instance: str, chance: Random) -> Upstream:
    upstream = _undigested(instance, chance)
    return upstream.model_copy(update={"definition": f"{upstream.port} {upstream.parallel} {upstream.shares}"})


def _undigested(instance: str, chance: Random) -> Upstream:
    cards = chance.choice((("one",), ("two",), ("one", "two"), ()))
    return Upstream(
        instance=instance,
        profile=instance.rpartition("-")[2],
        unit=f"llama@{instance}.service",
        host="127.0.0.1",
        port=8600 + chance.randint(0, 9),
        preload=chance.random() < 0.2,
        context_tokens=2048,
        parallel=chance.randint(1, 3),
        is_pinned=chance.random() < 0.1,
        idle_timeout_s=chance.choice((None, 2.0, 60.0)),
        drain_s=chance.choice((1.0, 10.0)),
        load_s=chance.choice((0.05, 0.2, 1.0)),
        shares=tuple(RoutedShare(card=card, mib=chance.choice((1000, 4000, 7000))) for card in cards),
    )


def _host(name: str, ids: list[str], chance: Random) -> RoutedHost:
    return RoutedHost(
        name=name,
        kind=UpstreamKind.OLLAMA,
        address="10.0.0.9",
        port=11434,
        path="",
        is_tls=False,
        priority=chance.choice((10, 50, 90)),
        toggle=None,
        credential=None,
        health_path="/",
        health_interval_s=10.0,
        health_timeout_s=1.0,
        health_failures=2,
        models={id: f"{id}:latest" for id in chance.sample(ids, chance.randint(1, len(ids)))},
    )


def _client(
    name: str, *, max_queued: int | None = None, per_minute: int | None = None, priority: Priority | None = None
) -> RoutedClient:
    return RoutedClient(
        name=name,
        sources=(name,),
        credential=None,
        models=None,
        purposes=None,
        data_class=None,
        priority=priority,
        max_queued=max_queued,
        requests_per_minute=per_minute,
    )


def a_scenario(seed: int) -> Scenario:
    """Draw a scenario from a seed."""
    chance = Random(seed)  # noqa: S311  # a scenario is drawn, not a secret
    first = chance.randrange(VARIANTS)
    other = chance.randrange(VARIANTS)
    tables = (a_table(first), a_table(other) if chance.random() < 0.5 else a_changed_table(first, other))
    known = tuple(model.id for model in tables[0].models)
    queries = (*(Query(model=id) for id in known), *(Query(model=id) for id in known), *PURPOSES)
    calm = chance.random() < 0.3
    steps = tuple(
        (chance.choice(PAUSES_S), a_step(chance, queries, is_calm=calm)) for _ in range(chance.randint(3, 18))
    )
    running = tuple(name for name in INSTANCES if chance.random() < 0.15)
    leases: tuple[Lease, ...] = ()
    if chance.random() < 0.1:
        target = chance.choice(INSTANCES)
        leases = (Lease("alloc_old", "r_old", "alpha", "max", target, -chance.random() * 700, 600.0),)
    return Scenario(tables, running, steps, seed, leases)


def a_step(chance: Random, queries: tuple[Query, ...], *, is_calm: bool) -> Step:
    """Draw what happens next; where it is calm, requests alone."""
    if is_calm or chance.random() < 0.65:
        return Ask(
            chance.choice(queries),
            chance.choice(CLIENTS),
            chance.choice(DEADLINES_S),
            chance.choice(SECONDS),
            chance.choice(OUTCOMES),
            chance.choice((None, None, "s1", "s2")),
            chance.choice((None, None, None, Priority.BATCH)),
            chance.choice((10, 10, 1500, 9000)),
        )
    kinds = (
        Leave(chance.randrange(4)),
        Leave(chance.randrange(4)),
        Process(
            chance.choice(("hang", "hang", "wake", "die", "die", "stop", "start", "spoil", "mend", "leave", "replace")),
            chance.choice(INSTANCES),
        ),
        Process(chance.choice(("hang", "die", "wake", "spoil", "leave", "cling", "let go")), chance.choice(INSTANCES)),
        HostIs(chance.choice(("down", "up", "off", "on")), chance.choice(HOSTS)),
        Foreign(chance.choice(("one", "two")), chance.choice(FOREIGN_MIB)),
        Profile(chance.choice(PROFILES)),
        Profile(chance.choice(PROFILES), tuple((card, chance.choice(CARD_STATES)) for card in ("one", "two"))),
        Card(chance.choice(("one", "two")), chance.choice(CARD_STATES)),
        Table(chance.randrange(2)),
        Operator(chance.random() < 0.5, chance.choice(INSTANCES)),
    )
    return chance.choice(kinds)


def a_scenario_of(seed: int, steps: Sequence[int]) -> Scenario:
    """Build a scenario whose steps are each drawn from a number of its own, so that hypothesis can leave some out."""
    drawn = a_scenario(seed)
    queries = (*(Query(model=model.id) for model in drawn.tables[0].models), *PURPOSES)
    each = (Random(number) for number in steps)  # noqa: S311  # a scenario is drawn, not a secret
    return drawn._replace(
        steps=tuple((chance.choice(PAUSES_S), a_step(chance, queries, is_calm=False)) for chance in each)
    )


def shrunk(scenario: Scenario, fails: Callable[[Scenario], bool]) -> Scenario:
    """Leave out steps for as long as it still fails."""
    size = len(scenario.steps)
    while size:
        size = max(1, size // 2) if size > 1 else 0
        at = 0
        while size and at < len(scenario.steps):
            shorter = scenario._replace(steps=scenario.steps[:at] + scenario.steps[at + size :])
            if fails(shorter):
                scenario = shorter
            else:
                at += size
    return scenario
