"""What the machine shall look like: files, weights, and which units run.

The units stand in start order: the bus, then the instances, then the router, then what holds them. The choice of a
profile starts that profile's target, so it comes after the target: everything is then started by apply itself, which
waits for each unit and can undo it. What follows the cards comes last, when there is something to switch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import KEEP_GENERATIONS, Catalog, Instance
from kloros_infra.ir.gate import InstanceGate, expected_cards
from kloros_infra.ir.generation import DesiredUnit, Provenance, Run
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import (
    BUS_UNIT,
    FOLLOWERS,
    LLM_TARGET,
    PROFILE_UNIT,
    ROUTER_UNIT,
    InstanceId,
    profile_target,
)
from kloros_infra.ir.place_weights import PlaceWeights, StoredFile
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.rpc_server import HostPart
from kloros_infra.ir.split_gguf import stored_names
from kloros_infra.ir.stored_weights import StoredWeights, model_files
from kloros_infra.ir.written import port_of
from kloros_infra.planner.cost import start_timeout_s


@dataclass(frozen=True, slots=True)
class DerivedWeights:
    """Weights that the lock could not pin, and the units that would need them."""

    key: str
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that plan compares with the machine; `profile` is the one that is active.

    `generation` is the one on the machine that this goes to; without one, what differs becomes a new generation, of
    which `provenance` tells.
    `refusals` is what is known already to keep apply from carrying it out; it can be planned all the same.
    `other_weights` belong to what is left as it is: they are not looked at, and a generation knows of them.
    Units outside `only` are left as they are, those in `replaced` are restarted although nothing differs.
    What was stopped by hand stays so unless `resets_pins`.
    `exposure_limit` is what systemd's score of a service may be at most.
    """

    tree: ArtifactTree
    layout: Layout
    profile: str
    units: tuple[DesiredUnit, ...] = ()
    weights: tuple[PlaceWeights, ...] = ()
    other_weights: tuple[PlaceWeights, ...] = ()
    derived: tuple[DerivedWeights, ...] = ()
    keeps_weights: bool = True
    refusals: Problems = ()
    only: frozenset[str] | None = None
    replaced: frozenset[str] = frozenset()
    resets_pins: bool = False
    exposure_limit: float | None = None
    generation: int | None = None
    provenance: Provenance = field(default_factory=Provenance)
    keep_generations: int = KEEP_GENERATIONS

    @property
    def is_destroyed(self) -> bool:
        """Say whether nothing of ours shall be left."""
        return not self.tree

    def acts_on(self, unit: str) -> bool:
        """Say whether a unit may be started, restarted or stopped."""
        return self.only is None or unit in self.only


def nothing_desired(layout: Layout, *, with_weights: bool = False) -> Desired:
    """Describe a machine without us, for destroy; weights stay unless asked otherwise."""
    return Desired(tree={}, layout=layout, profile="", keeps_weights=not with_weights)


def desired_state(
    catalog: Catalog,
    tree: ArtifactTree,
    *,
    layout: Layout,
    profile: str,
    placements: Mapping[InstanceId, Placement] = MappingProxyType({}),
) -> Desired:
    """Say what `tree` (generated files and launchers) needs of a machine while `profile` is active.

    An instance that is not in `placements` is only waited for; the others have a gate to pass.
    """
    written = (instance for instance in catalog.instances if instance.shared_with is None)
    instances = tuple(instance for instance in written if layout.unit_path(instance.unit) in tree)
    weights = _weights(instances, layout)
    units = (
        *_bus_units(catalog),
        *(unit.under(profile) for unit in _instance_units(instances, catalog, placements, layout)),
        _router_unit(catalog),
        *(_profile_target(one.name).under(profile) for one in catalog.profiles),
        DesiredUnit(PROFILE_UNIT, Run.ALWAYS),
        *(DesiredUnit(unit, Run.ALWAYS) for unit in FOLLOWERS),
        DesiredUnit(LLM_TARGET, Run.ALWAYS),
    )
    present = tuple(unit for unit in units if layout.unit_path(unit.unit) in tree)
    return Desired(
        tree=tree,
        layout=layout,
        profile=profile,
        units=(*present, *_other_units(tree, layout, frozenset(unit.unit for unit in present))),
        weights=tuple(weights_step(stored) for stored in weights if not stored.weights.is_derived),
        derived=tuple(_derived(stored, instances, layout) for stored in weights if stored.weights.is_derived),
        exposure_limit=catalog.sandbox.exposure_limit,
        keep_generations=catalog.keep_generations,
    )


def desired_part(part: HostPart, tree: ArtifactTree, *, layout: Layout, exposure_limit: float) -> Desired:
    """Say what a host that lends its cards looks like: each of its servers runs, whoever uses it."""
    servers = (
        # They take packets of their client alone: nobody on their own host can connect.
        DesiredUnit(one.unit, Run.ALWAYS, ready_url=f"listen://{one.endpoint}", ports=(one.port,))
        for one in part.servers
    )
    units = (*servers, DesiredUnit(LLM_TARGET, Run.ALWAYS))
    return Desired(tree=tree, layout=layout, profile="", units=units, exposure_limit=exposure_limit)


def _bus_units(catalog: Catalog) -> Iterator[DesiredUnit]:
    """A subscriber's side that accepts connections is what the router needs of the proxy."""
    if catalog.bus.is_managed:
        ports = (port_of(catalog.bus.xsub), port_of(catalog.bus.xpub))
        yield DesiredUnit(BUS_UNIT, Run.ALWAYS, ready_url=catalog.bus.xpub, ports=ports)


def _instance_units(
    instances: Iterable[Instance], catalog: Catalog, placements: Mapping[InstanceId, Placement], layout: Layout
) -> Iterator[DesiredUnit]:
    further: dict[InstanceId, tuple[str, ...]] = {}
    for one in catalog.instances:
        if one.shared_with is not None:
            further[one.shared_with] = (*further.get(one.shared_with, ()), one.profile.name)
    for instance in instances:
        unit = _instance_unit(instance, placements.get(instance.id), layout)
        yield replace(unit, further_profiles=further.get(instance.id, ()))


def _instance_unit(instance: Instance, placement: Placement | None, layout: Layout) -> DesiredUnit:
    files = model_files(instance.model, layout)
    run = Run.ALWAYS if instance.serving.preload else Run.ON_DEMAND
    return DesiredUnit(
        instance.unit,
        run,
        # Answers 503 while the weights load and 200 after; needs no API key (llama.cpp, tools/server).
        ready_url=f"{_base_url(instance)}/health",
        timeout_s=start_timeout_s(files.size_bytes),
        ports=(instance.port,),
        weights=tuple(stored.path for stored in files.all),
        load_bytes=files.size_bytes,
        profile=instance.profile.name,
        run_in_profile=run,
        gate=None if placement is None else _gate(instance, placement, files.size_bytes),
        is_stopped_idle=instance.serving.idle_timeout_s is not None,
    )


def _gate(instance: Instance, placement: Placement, load_bytes: int) -> InstanceGate:
    uuids = {card.name: card.uuid for card in instance.profile.local_cards}
    return InstanceGate(
        base_url=_base_url(instance),
        kind=instance.model.kind,
        placement=placement,
        # Weights that are mapped are read as they are first used.
        token_timeout_s=start_timeout_s(load_bytes),
        card_uuids=tuple((load.device, uuid) for load in placement.loads if (uuid := uuids.get(load.card or ""))),
        cards=expected_cards(placement, instance.profile),
    )


def _base_url(instance: Instance) -> str:
    return f"http://127.0.0.1:{instance.port}"


def _router_unit(catalog: Catalog) -> DesiredUnit:
    bridge, direct = catalog.bridge, catalog.bus.direct or ""
    host = f"[{bridge.host}]" if ":" in bridge.host else bridge.host
    url = f"http://{host}:{bridge.ports[0]}/health"
    # A socket of the file system takes no port.
    asked = (port_of(direct),) if direct.startswith("tcp://") else ()
    return DesiredUnit(ROUTER_UNIT, Run.ALWAYS, ready_url=url, ports=(*bridge.ports, *asked))


def _profile_target(profile: str) -> DesiredUnit:
    return DesiredUnit(profile_target(profile), Run.ALWAYS, profile=profile)


def _other_units(tree: ArtifactTree, layout: Layout, named: frozenset[str]) -> Iterator[DesiredUnit]:
    """Units that a target, a path or a timer starts, not apply."""
    for path in sorted(tree):
        unit = layout.unit_at(path)
        if unit is not None and unit not in named:
            yield DesiredUnit(unit, Run.ON_DEMAND)


def _weights(instances: Iterable[Instance], layout: Layout) -> tuple[StoredWeights, ...]:
    """List what the instances load, each once: a draft model may be a model of its own as well."""
    loaded = (stored for instance in instances for stored in model_files(instance.model, layout).all)
    return tuple({stored.path: stored for stored in loaded}.values())


def weights_step(stored: StoredWeights) -> PlaceWeights:
    """Say how pinned weights come into the store."""
    weights = stored.weights
    return PlaceWeights(
        key=weights.key,
        revision=weights.revision,
        files=tuple(_files(stored)),
        # Only derived weights have none.
        sha256=weights.sha256 or "",
    )


def _files(stored: StoredWeights) -> Iterator[StoredFile]:
    """Give the files in the store: the parts of a split GGUF one by one, any other parts joined."""
    weights = stored.weights
    paths = stored_names(stored.path)
    if len(paths) == 1:
        sources = tuple(file.source for file in weights.files)
        yield StoredFile(stored.path, sources, weights.size_bytes, weights.sha256 or "")
        return
    for path, file in zip(paths, weights.files, strict=True):
        yield StoredFile(path, (file.source,), file.size_bytes, file.sha256)


def _derived(stored: StoredWeights, instances: Iterable[Instance], layout: Layout) -> DerivedWeights:
    needing = (one for one in instances if stored in model_files(one.model, layout).all)
    return DerivedWeights(stored.weights.key, tuple(instance.unit for instance in needing))
