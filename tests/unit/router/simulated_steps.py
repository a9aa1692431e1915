"""What happens to a simulated machine, written down, so that what fails can be replayed and made shorter."""

from __future__ import annotations

from typing import NamedTuple

from kloros_infra.ir.requests import Priority
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.events import Outcome
from kloros_infra.router.lease import Lease
from kloros_infra.router.query import Query


class Ask(NamedTuple):
    """Somebody asks; the answer takes `seconds`, or ends as `outcome` says."""

    query: Query
    client: str = "anyone"
    deadline_s: float = 20.0
    seconds: float = 0.5
    outcome: Outcome = Outcome.SERVED
    session: str | None = None
    priority: Priority | None = None
    tokens: int = 10


class Leave(NamedTuple):
    """Whoever asked before so many others goes away."""

    back: int


class Process(NamedTuple):
    """Something happens to an instance's process.

    It may `hang`, `wake`, `die`, `spoil` or `mend`, `cling` to life or `let go` of it; somebody may `stop` or `start`
    it, have it `leave` when it has finished what it does, or `replace` it by another.
    """

    what: str
    instance: str


class HostIs(NamedTuple):
    """A remote host goes away, comes back, or is switched."""

    what: str
    host: str


class Foreign(NamedTuple):
    """Others use so much of a card."""

    card: str
    mib: int


class Profile(NamedTuple):
    """Another profile is active, and cards stand otherwise with it: each `open`, `taken` or `closed`."""

    name: str
    cards: tuple[tuple[str, str], ...] = ()


class Card(NamedTuple):
    """A card is `open`, `taken` by others, or `closed` from now on."""

    card: str
    state: str


class Table(NamedTuple):
    """Another table holds."""

    number: int


class Operator(NamedTuple):
    """An operator starts or stops an instance."""

    is_start: bool
    instance: str


Step = Ask | Leave | Process | HostIs | Foreign | Profile | Card | Table | Operator


class Scenario(NamedTuple):
    """What is there, and what happens: each step after a pause."""

    tables: tuple[RoutingTable, ...]
    running: tuple[str, ...]
    steps: tuple[tuple[float, Step], ...]
    seed: int = 0
    leases: tuple[Lease, ...] = ()

    def __str__(self) -> str:
        lines = "".join(f"\n  after {pause_s:g} s: {step}" for pause_s, step in self.steps)
        return f"seed {self.seed}, running {self.running}:{lines}"
