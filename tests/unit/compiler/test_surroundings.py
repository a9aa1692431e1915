"""Neighbours found for all instances at once are those that each would find for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.emit_routing import routing_table
from kloros_infra.compiler.surroundings import surroundings
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId, instance_unit
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement, TensorException
from kloros_infra.ir.routing import Upstream
from tests.factories import a_catalog, a_model, a_profile, an_instance, kloros_cards

CARDS = kloros_cards()
PROFILES = st.lists(st.frozensets(st.sampled_from(range(3))), min_size=1, max_size=4)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Make catalogs of up to four models under some of up to four profiles, in any order; some instances are shared."""
    chosen = draw(PROFILES)
    profiles = tuple(
        a_profile(f"p{place}", *(CARDS[one] for one in sorted(cards))) for place, cards in enumerate(chosen)
    )
    pairs = [(model, profile) for model in "abcd" for profile in profiles]
    used = draw(st.lists(st.sampled_from(pairs), min_size=1, unique_by=lambda pair: (pair[0], pair[1].name)))
    models = {name: a_model(name) for name in "abcd"}
    catalog = a_catalog(*(an_instance(models[model], profile) for model, profile in used), profiles=profiles)
    owners: dict[str, list[Instance]] = {}
    shared = {}
    for one in sorted(catalog.instances, key=lambda one: profiles.index(one.profile)):
        others = owners.setdefault(one.model.id, [])
        owner = draw(st.sampled_from([None, *others]))
        if owner is None:
            others.append(one)
        shared[one.id] = replace(one, shared_with=None if owner is None else owner.id)
    return replace(catalog, instances=tuple(shared[one.id] for one in catalog.instances))


def a_placement(devices: Collection[str], *, engine: str = "solver", experts: str | None = None) -> Placement:
    """Place a layer on each of these devices; what cards are called here is their llama.cpp name as well."""
    exceptions = () if experts is None else (TensorException("ffn", experts),)
    cards = [name for name in sorted({*devices, experts or CPU}) if name != CPU]
    loads = [DeviceLoad(name, None if name == CPU else name, 1, 1, 1, 1, None) for name in (*cards, CPU)]
    return Placement(engine, tuple(devices), exceptions, tuple(loads), 512, 1, 512)


@st.composite
def placements(draw: st.DrawFn, catalog: Catalog) -> dict[InstanceId, Placement]:
    """Place some instances on any devices, with all of their weights or experts elsewhere."""
    devices = st.sampled_from((*(card.name for card in CARDS), CPU))
    found = {}
    for one in catalog.instances:
        if draw(st.booleans()):
            engine = draw(st.sampled_from(("solver", "solver", "fit")))
            holders = draw(st.lists(devices, min_size=1, unique=True))
            found[one.id] = a_placement(holders, engine=engine, experts=draw(st.none() | devices))
    return found


def can_run_beside(one: Instance, other: Instance, known: Mapping[InstanceId, Placement]) -> bool:
    """Say whether it is known of both where they lie, and no device has weights of both."""
    if not {one.id, other.id} <= known.keys() or "fit" in (known[one.id].engine, known[other.id].engine):
        return False
    own, others = (
        {*place.layer_devices, *(exception.device for exception in place.exceptions)}
        for place in (known[one.id], known[other.id])
    )
    return not own & others


def rivals(one: Instance, catalog: Catalog, known: Mapping[InstanceId, Placement]) -> set[str]:
    """Find the other units of the same model that lie on a device of this one's."""
    others = (other for other in catalog.instances if other.model == one.model and other.shared_with is None)
    return {other.unit for other in others if other is not one and not can_run_beside(one, other, known)}


def predecessors(one: Instance, catalog: Catalog, known: Mapping[InstanceId, Placement]) -> set[str]:
    """Find rivals of earlier profiles, and units of those that share a card, but for those its own profile runs."""
    earlier = [profile.name for profile in catalog.profiles[: catalog.profiles.index(one.profile)]]
    found = {
        other.unit
        for other in catalog.instances
        if other.profile.name in earlier and set(other.profile.cards) & set(one.profile.cards)
    }
    before = {
        other.unit
        for other in catalog.instances
        if other.profile.name in earlier and other.unit in rivals(one, catalog, known) and other.shared_with is None
    }
    return (found - {other.unit for other in catalog.instances if other.profile == one.profile}) | before


@given(st.data())
def test_neighbours_are_those_that_each_instance_would_find(data: st.DataObject) -> None:
    catalog = data.draw(catalogs())
    known = data.draw(placements(catalog))

    found = surroundings(catalog, known)

    written = tuple(one for one in catalog.instances if one.shared_with is None)
    assert found.keys() == {one.id for one in written}
    for one in written:
        around = found[one.id]
        assert around.conflicts.split() == sorted(rivals(one, catalog, known))
        assert around.after.split() == sorted(predecessors(one, catalog, known))
        assert around.sandbox == catalog.sandbox
        assert around.systemd_version == catalog.systemd_version


@given(st.data())
def test_the_router_is_told_what_the_units_say(data: st.DataObject) -> None:
    catalog = data.draw(catalogs())
    known = data.draw(placements(catalog))
    around = surroundings(catalog, known)

    table = routing_table(catalog, Layout(), known)

    for model in table.models:
        units = {upstream.unit for upstream in model.upstreams}
        for upstream in model.upstreams:
            stopped = set(around[owner(catalog, upstream)].conflicts.split())
            assert set(map(instance_unit, upstream.beside)) == units - stopped - {upstream.unit}


def test_the_router_is_told_by_name_where_some_of_a_model_can_run_together() -> None:
    fast, slow, _ = (card.name for card in CARDS)
    profiles = (a_profile("max", *CARDS[:2]), a_profile("mid", CARDS[0]), a_profile("low", CARDS[1]))
    catalog = a_catalog(*(an_instance(profile=profile) for profile in profiles), profiles=profiles)
    devices = ((fast, slow), (fast,), (slow,))
    known = {one.id: a_placement(cards) for one, cards in zip(catalog.instances, devices, strict=True)}
    low = catalog.instances[2]
    shared = an_instance(profile=a_profile("cpu_only"))
    catalog = replace(catalog, instances=(*catalog.instances, replace(shared, shared_with=low.id)))

    (model,) = routing_table(catalog, Layout(), known).models

    assert {upstream.profile: upstream.beside for upstream in model.upstreams} == {
        "max": (),
        "mid": ("small-low",),
        "low": ("small-mid",),
        "cpu_only": ("small-mid",),
    }


def owner(catalog: Catalog, upstream: Upstream) -> InstanceId:
    """Find the instance whose unit an upstream names."""
    return next(one.id for one in catalog.instances if one.unit == upstream.unit and one.shared_with is None)


def test_the_input_alone_in_the_hosts_memory_is_in_nobodys_way() -> None:
    catalog = a_catalog(an_instance(profile=a_profile("max", CARDS[0])), an_instance(profile=a_profile("cpu_only")))
    card, cpu = (one.id for one in catalog.instances)

    apart = surroundings(catalog, {card: a_placement((CARDS[0].name,)), cpu: a_placement((CPU,))})
    experts = surroundings(catalog, {card: a_placement((CARDS[0].name,), experts=CPU), cpu: a_placement((CPU,))})

    assert (apart[card].conflicts, apart[cpu].conflicts, apart[cpu].after) == ("", "", "")
    assert (experts[card].conflicts, experts[cpu].conflicts) == (cpu.unit, card.unit)
    assert experts[cpu].after == card.unit
