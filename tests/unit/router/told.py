"""A core that is told things by hand, and what it wants done in return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from kloros_infra.ir.requests import Priority, UpstreamKind
from kloros_infra.ir.routing import (
    RoutedBridge,
    RoutedCapacity,
    RoutedHost,
    RoutedModel,
    RoutedPolicies,
    RoutedPurpose,
    RoutedShare,
    RoutingTable,
    Upstream,
)
from kloros_infra.router.core import Core
from kloros_infra.router.effects import Continue, Effect, Poll, Refuse, Send, StartUnit, StopUnit
from kloros_infra.router.events import Asked, Ended, Event, Outcome, Polled, Ticked, UnitSeen, UnitStarted, Verdict
from kloros_infra.router.lease import Lease
from kloros_infra.router.query import Query
from tests.factories import a_routed_model, a_routing_table, an_upstream

CAPACITY_MIB = 10_000
OneEffect = TypeVar("OneEffect")


def an_instance(name: str, mib: int = 4000, **changes: object) -> Upstream:
    """Build an instance that takes memory of card `one`; it is not started with its profile."""
    shares = (RoutedShare(card="one", mib=mib),)
    settings = {"preload": False, "shares": shares, "load_s": 2.0, "definition": "1", **changes}
    return an_upstream(name).model_copy(update=settings)


def a_model(id: str, *upstreams: Upstream, group: str | None = None) -> RoutedModel:
    """Build a model; its instance is `ID-max`, unless others are given."""
    model = a_routed_model(id, *(upstreams or (an_instance(f"{id}-max"),)), purpose_tags=("code",))
    return model.model_copy(update={"group": group, "upstreams": upstreams or model.upstreams})


def a_host(name: str, *model_ids: str, priority: int = 90) -> RoutedHost:
    """Build a remote host that serves models."""
    return RoutedHost(
        name=name,
        kind=UpstreamKind.OPENAI,
        address="10.0.0.9",
        port=8080,
        path="/v1",
        is_tls=True,
        priority=priority,
        toggle=None,
        credential="east-key",
        health_path="/v1/models",
        health_interval_s=20.0,
        health_timeout_s=1.0,
        health_failures=2,
        models={id: f"{id}-there" for id in model_ids},
    )


def a_table(
    *models: RoutedModel,
    hosts: tuple[RoutedHost, ...] = (),
    policies: RoutedPolicies | None = None,
    max_queued: int = 256,
    purposes: tuple[RoutedPurpose, ...] | None = None,
) -> RoutingTable:
    """Build a table of profiles `max` and `mid`, with one card."""
    ids = tuple(model.id for model in models)
    code = RoutedPurpose(name="code", candidates=ids, otherwise=None, is_default=True)
    bridge = RoutedBridge(host="127.0.0.1", ports=(11434,), max_queued=max_queued)
    table = a_routing_table(*models, profiles=("max", "mid"), purposes=purposes or (code,), bridge=bridge)
    return table.model_copy(
        update={
            "hosts": hosts,
            "policies": policies or RoutedPolicies(),
            "capacities": (RoutedCapacity(card="one", mib=CAPACITY_MIB),),
        }
    )


class Told:
    """A core, the time, and the effects of what it was told last."""

    def __init__(self, table: RoutingTable, *, profile: str = "max", leases: Iterable[Lease] = ()) -> None:
        self.now = 0.0
        self.core = Core(table, profile=profile, now=0.0, seed=7, leases=leases)
        self.effects: list[Effect] = []
        self._asked = 0

    def tell(self, event: Event) -> list[Effect]:
        """Tell it something now."""
        self.effects = self.core.on(event, self.now)
        return self.effects

    def after(self, seconds: float) -> list[Effect]:
        """Let time pass, and tell it whenever it wants to be told; give all that it wanted done."""
        end, effects = self.now + seconds, []
        while (at := self.core.next_at()) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self.tell(Ticked())
        self.now = end
        self.effects = effects
        return effects

    def down(self, *instances: str) -> list[Effect]:
        """Say that units do not run."""
        effects = [effect for name in instances for effect in self.tell(UnitSeen(name, is_up=False))]
        self.effects = effects
        return effects

    def up(self, *instances: str) -> list[Effect]:
        """Have instances be ready, whatever they were."""
        effects: list[Effect] = []
        for name in instances:
            effects += self.tell(UnitSeen(name, is_up=True, pid=100))
            effects += self.tell(UnitStarted(name))
            effects += self.healthy(name)
        self.effects = effects
        return effects

    def healthy(self, target: str, verdict: Verdict = Verdict.HEALTHY) -> list[Effect]:
        """Have a target be polled, and answer."""
        effects: list[Effect] = []
        while not any(isinstance(effect, Poll) and effect.target.name == target for effect in effects):
            at = self.core.next_at()
            assert at is not None, f"{target} is never polled"
            self.now = max(self.now, at)
            effects += self.tell(Ticked())
        effects += self.tell(Polled(target, verdict))
        self.effects = effects
        return effects

    def ask(
        self,
        model: str | None = None,
        *,
        client: str = "anyone",
        for_s: float = 60.0,
        session: str | None = None,
        priority: Priority | None = None,
        tokens: int = 0,
    ) -> str:
        """Ask; give the request's id."""
        self._asked += 1
        id = f"q{self._asked}"
        self.tell(Asked(id, Query(model=model), client, self.now + for_s, tokens, session, priority))
        return id

    def end(self, id: str, outcome: Outcome = Outcome.SERVED, *, retry_after_s: float | None = None) -> list[Effect]:
        """End an attempt."""
        return self.tell(Ended(id, outcome, retry_after_s))

    # What it wanted done last.

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Give what was sent where."""
        sends = [effect.send if isinstance(effect, Continue) else effect for effect in self.effects]
        return [(send.id, send.target.name) for send in sends if isinstance(send, Send)]

    @property
    def started(self) -> list[str]:
        return [effect.instance for effect in self.effects if isinstance(effect, StartUnit)]

    @property
    def stopped(self) -> list[str]:
        return [effect.instance for effect in self.effects if isinstance(effect, StopUnit)]

    @property
    def polled(self) -> list[str]:
        return [effect.target.name for effect in self.effects if isinstance(effect, Poll)]

    def of(self, kind: type[OneEffect]) -> list[OneEffect]:
        """Give the effects of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def refusal(self) -> Refuse:
        """Give the one refusal."""
        (refusal,) = self.of(Refuse)
        return refusal

    def state(self, instance: str) -> str:
        """Say what is known of an instance."""
        return next(str(run["status"]) for run in self.core.health(self.now)["runtimes"] if run["profile"] == instance)
