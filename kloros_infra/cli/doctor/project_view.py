"""What is wanted of a machine: by models.yaml where it is, and by the generation that is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from kloros_infra.adapters.weights_store import WeightsFolder
from kloros_infra.agent.facts import cards_of
from kloros_infra.cli.history import desired_at
from kloros_infra.cli.planning import Prepared, prepare
from kloros_infra.cli.wiring import ManagerChoice, Target, generations_of
from kloros_infra.diagnostics import Problems
from kloros_infra.doctor.facts import AS_ROOT, NeededCard, NeededPort, Unseen, Wanted
from kloros_infra.errors import KlorosError
from kloros_infra.ir.artifact import text_of
from kloros_infra.ir.catalog import OLDEST_SYSTEMD, Catalog
from kloros_infra.ir.generation import Run
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.placement import CPU
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.placement.card_table import figures_of
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.request import PlanRequest

MIB = 2**20


@dataclass(frozen=True, slots=True)
class View:
    """What is wanted: `wanted` in short, and where it comes from. Each may be missing."""

    where: Target
    wanted: Wanted
    file: Path | None = None
    prepared: Prepared | None = None
    installed: Desired | Unseen | None = None
    damage: str = ""
    """Why the generation that is installed cannot be used."""

    @property
    def desired(self) -> Desired | None:
        """Give what models.yaml says, and where it does not, what is installed."""
        if self.prepared is not None:
            return self.prepared.wanted
        return self.installed if isinstance(self.installed, Desired) else None

    @property
    def catalog(self) -> Catalog | None:
        """Give the resolved models.yaml, where it can be compiled."""
        compiled = self.prepared.compiled if self.prepared else None
        return compiled.catalog if compiled else None

    @property
    def table(self) -> RoutingTable | None:
        """Give the routing table of what is wanted."""
        return table_of(self.desired)


def view_project(file: Path | None, where: Target) -> View:
    """Look at models.yaml, if there is one, and at what is installed."""
    prepared, problems = (None, ()) if file is None else _prepared(file, where)
    view = replace(_with_installed(where), file=file, prepared=prepared)
    return replace(view, wanted=_wanted(view, problems))


def _prepared(file: Path, where: Target) -> tuple[Prepared | None, Problems]:
    """Compile models.yaml as plan does; what keeps it from being compiled is a finding, and no error."""
    request = PlanRequest(file=str(file), root=str(where.root), manager=str(where.manager))
    try:
        made = prepare(request)
    except KlorosError as error:
        return None, error.problems
    return made, made.compiled.warnings if made.compiled else ()


def _with_installed(where: Target) -> View:
    try:
        current = generations_of(where).history().current
        return View(where, Wanted(), installed=None if current is None else desired_at(where, current))
    except KlorosError as error:
        problem = error.problems[0]
        damage = f"{problem.code} {problem.detail}".rstrip(".")
        return View(where, Wanted(), installed=Unseen(damage, problem.hint), damage=damage)
    except PermissionError as error:
        return View(where, Wanted(), installed=Unseen(f"{error.filename} may not be read by this user", AS_ROOT))


def table_of(desired: Desired | None) -> RoutingTable | None:
    """Give the routing table of what is desired; None where there is none that can be read."""
    if desired is None:
        return None
    try:
        return RoutingTable.model_validate_json(text_of(desired.tree.get(desired.layout.routing)))
    except ValidationError:
        return None


def _wanted(view: View, problems: Problems) -> Wanted:
    """Say in short what is wanted."""
    basis = Wanted(
        problems=problems,
        has_models_file=view.file is not None,
        has_systemd=view.where.manager is ManagerChoice.SYSTEMD,
        oldest_systemd=view.catalog.systemd_version if view.catalog else OLDEST_SYSTEMD,
    )
    desired, table = view.desired, view.table
    if desired is None:
        return basis
    missing = tuple(_missing(desired.weights, WeightsFolder(view.where.root, ()).verified()))
    return replace(
        basis,
        source="models.yaml" if view.prepared else "the installed generation",
        cards=tuple(_cards(table, view.catalog)) if table else (),
        lent_cards=tuple(card.name for card in cards_of(table) if card.remote is not None) if table else (),
        units=tuple(unit.unit for unit in desired.units),
        ports=tuple(sorted({NeededPort(p, unit.unit) for unit in desired.units for p in unit.ports}, key=_by_port)),
        memory_bytes=_memory_bytes(desired),
        uses_overrider=bool(view.catalog and view.catalog.tensor_overrider),
        missing_weights_bytes=sum(step.size_bytes for step in missing),
        missing_weights=tuple(step.key for step in missing),
        unpinned_weights=tuple(one.key for one in desired.derived),
        weights_count=len(desired.weights),
    )


def _by_port(needed: NeededPort) -> tuple[int, str]:
    return needed.port, needed.unit


def _missing(steps: Iterable[PlaceWeights], stored: Mapping[str, str]) -> Iterator[PlaceWeights]:
    for step in steps:
        if stored.get(step.destination) != step.sha256:
            yield step


def _cards(table: RoutingTable, catalog: Catalog | None) -> Iterator[NeededCard]:
    """List the cards of this host; without models.yaml the capability is that of the card's name, where known."""
    declared = {card.name: card for profile in (catalog.profiles if catalog else ()) for card in profile.cards}
    for routed in cards_of(table):
        if routed.remote is not None:
            continue
        card, known = declared.get(routed.name), figures_of(routed.name)
        capability = card.compute_capability if card else known.compute_capability if known else None
        yield NeededCard(routed.name, capability, routed.vram_mib * MIB)


def _memory_bytes(desired: Desired) -> Mapping[str, int]:
    """Say what models take of the machine's own memory under each profile: those that always run, and one more."""
    always: Counter[str] = Counter()
    further: dict[str, int] = {}
    for unit in desired.units:
        needed = sum(load.total_bytes for load in unit.gate.placement.loads if load.device == CPU) if unit.gate else 0
        for profile in unit.profiles:
            if unit.run_in_profile is Run.ALWAYS:
                always[profile] += needed
            else:
                further[profile] = max(further.get(profile, 0), needed)
    return {profile: always[profile] + further.get(profile, 0) for profile in sorted({*always, *further})}
