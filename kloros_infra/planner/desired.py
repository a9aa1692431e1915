"""What the machine shall look like: files, weights, and which units run.

The units stand in start order: the bus, then the instances, then the router, then what holds them. The choice of a
profile starts that profile's target, so it comes after the target: everything is then started by apply itself, which
waits for each unit and can undo it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import BridgeAddresses, Catalog, Instance, Model
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import BUS_UNIT, LLM_TARGET, PROFILE_UNIT, ROUTER_UNIT, profile_target
from kloros_infra.ir.plan import PlaceWeights
from kloros_infra.planner.cost import start_timeout_s

SERVICE_TIMEOUT_S = 30.0
"""The bus and the router import Python and bind sockets; nothing else."""


class Run(StrEnum):
    """Whether a unit runs: always, when something asks for it, or not now."""

    ALWAYS = "always"
    ON_DEMAND = "on demand"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class DesiredUnit:
    """A unit, how to tell that it is ready, and what it needs: ports, weights (a store path), bytes to load."""

    unit: str
    run: Run
    ready_url: str | None = None
    timeout_s: float = SERVICE_TIMEOUT_S
    ports: tuple[int, ...] = ()
    weights: str | None = None
    load_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DerivedWeights:
    """Weights that the lock could not pin, and the units that would need them."""

    key: str
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that plan compares with the machine; `profile` is the one that is active.

    `refusals` is what is known already to keep apply from carrying it out; it can be planned all the same.
    """

    tree: ArtifactTree
    layout: Layout
    profile: str
    units: tuple[DesiredUnit, ...] = ()
    weights: tuple[PlaceWeights, ...] = ()
    derived: tuple[DerivedWeights, ...] = ()
    keeps_weights: bool = True
    refusals: Problems = ()

    @property
    def is_destroyed(self) -> bool:
        """Say whether nothing of ours shall be left."""
        return not self.tree


def nothing_desired(layout: Layout, *, with_weights: bool = False) -> Desired:
    """Describe a machine without us, for destroy; weights stay unless asked otherwise."""
    return Desired(tree={}, layout=layout, profile="", keeps_weights=not with_weights)


def desired_state(catalog: Catalog, tree: ArtifactTree, *, layout: Layout, profile: str) -> Desired:
    """Say what `tree` (generated files and launchers) needs of a machine while `profile` is active."""
    instances = tuple(instance for instance in catalog.instances if layout.unit_path(instance.id.unit) in tree)
    models = tuple({instance.model.id: instance.model for instance in instances}.values())
    units = (
        *_bus_units(catalog),
        *(_instance_unit(instance, layout, profile) for instance in instances),
        _router_unit(catalog.bridge),
        *_profile_targets(catalog, profile),
        DesiredUnit(PROFILE_UNIT, Run.ALWAYS),
        DesiredUnit(LLM_TARGET, Run.ALWAYS),
    )
    present = tuple(unit for unit in units if layout.unit_path(unit.unit) in tree)
    return Desired(
        tree=tree,
        layout=layout,
        profile=profile,
        units=(*present, *_other_units(tree, layout, frozenset(unit.unit for unit in present))),
        weights=tuple(_weights_step(model, layout) for model in models if not model.weights.is_derived),
        derived=tuple(_derived(model, instances) for model in models if model.weights.is_derived),
    )


def _bus_units(catalog: Catalog) -> Iterator[DesiredUnit]:
    """A subscriber's side that accepts connections is what the router needs of the proxy."""
    if catalog.bus.is_managed:
        ports = tuple(int(address.rpartition(":")[2]) for address in (catalog.bus.xsub, catalog.bus.xpub))
        yield DesiredUnit(BUS_UNIT, Run.ALWAYS, ready_url=catalog.bus.xpub, ports=ports)


def _instance_unit(instance: Instance, layout: Layout, profile: str) -> DesiredUnit:
    model = instance.model
    is_active = instance.profile.name == profile
    run = Run.NEVER if not is_active else Run.ALWAYS if model.preload else Run.ON_DEMAND
    return DesiredUnit(
        instance.id.unit,
        run,
        # Answers 503 while the weights load and 200 after; needs no API key (llama.cpp, tools/server).
        ready_url=f"http://127.0.0.1:{instance.port}/health",
        timeout_s=start_timeout_s(model.weights.size_bytes),
        ports=(instance.port,),
        weights=layout.weights_path(model.id, model.version_id),
        load_bytes=model.weights.size_bytes,
    )


def _router_unit(bridge: BridgeAddresses) -> DesiredUnit:
    host = f"[{bridge.host}]" if ":" in bridge.host else bridge.host
    url = f"http://{host}:{bridge.ports[0]}/health"
    return DesiredUnit(ROUTER_UNIT, Run.ALWAYS, ready_url=url, ports=bridge.ports)


def _profile_targets(catalog: Catalog, profile: str) -> Iterator[DesiredUnit]:
    for one in catalog.profiles:
        yield DesiredUnit(profile_target(one.name), Run.ALWAYS if one.name == profile else Run.NEVER)


def _other_units(tree: ArtifactTree, layout: Layout, named: frozenset[str]) -> Iterator[DesiredUnit]:
    """Units that a target, a path or a timer starts, not apply."""
    for path in sorted(tree):
        unit = layout.unit_at(path)
        if unit is not None and unit not in named:
            yield DesiredUnit(unit, Run.ON_DEMAND)


def _weights_step(model: Model, layout: Layout) -> PlaceWeights:
    weights = model.weights
    return PlaceWeights(
        key=weights.key,
        sources=tuple(file.source for file in weights.files),
        revision=weights.revision,
        destination=layout.weights_path(model.id, model.version_id),
        size_bytes=weights.size_bytes,
        # Only derived weights have none.
        sha256=weights.sha256 or "",
    )


def _derived(model: Model, instances: tuple[Instance, ...]) -> DerivedWeights:
    units = tuple(instance.id.unit for instance in instances if instance.model.id == model.id)
    return DerivedWeights(model.weights.key, units)
