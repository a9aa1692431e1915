"""Instances of several profiles are one unit exactly where all that is written of them is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.rendering import rendering
from kloros_infra.compiler.shared_instances import share_instances
from kloros_infra.ir.artifact import ArtifactTree, text_of
from kloros_infra.ir.catalog import Catalog, Instance, PlacementMode, Profile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId, is_instance
from kloros_infra.ir.on_change import OnChange
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.unit_keys import unit_keys
from tests.factories import a_catalog, a_model, a_profile, a_serving, an_instance, kloros_cards

LAYOUT = Layout()
PREPARED = rendering(read_templates(), LAYOUT)
BIG, SMALL, OLD = kloros_cards()
MAX, MID, LOW = a_profile("max", BIG, SMALL), a_profile("mid", SMALL), a_profile("low", SMALL, OLD)
NONE = a_profile("cpu_only")
MODEL = a_model("code")
LAYERS = MODEL.weights.header.layer_count + 1


def on_small(profile: Profile, port: int = 8601, *, has_own_port: bool = True, **serving: Any) -> Instance:
    """Build an instance that is wholly on the small card."""
    layers = tuple(LAYERS if card is SMALL else 0 for card in profile.cards)
    plain = a_serving(placement=PlacementMode.MANUAL, context_tokens=MODEL.context_tokens)
    settled = replace(plain, **serving)
    return replace(an_instance(MODEL, profile, port=port, serving=settled, layers=layers), has_own_port=has_own_port)


def shared(catalog: Catalog) -> tuple[Catalog, Mapping[InstanceId, Placement]]:
    placements, problems = place_all(catalog)
    assert not [problem for problem in problems if problem.is_error]
    return share_instances(catalog, placements, PREPARED), placements


def owners(catalog: Catalog) -> dict[str, str]:
    """Map the instances that are another one to it."""
    return {str(one.id): str(one.shared_with) for one in shared(catalog)[0].instances if one.shared_with}


def test_an_equal_instance_without_a_port_is_the_one_of_the_better_profile() -> None:
    catalog = a_catalog(on_small(MAX), on_small(MID, 8602, has_own_port=False), profiles=(MAX, MID))
    first, second = shared(catalog)[0].instances

    assert (first.unit, first.port, first.shared_with) == ("llama@code-max.service", 8601, None)
    assert (second.unit, second.port, second.shared_with) == ("llama@code-max.service", 8601, first.id)
    assert str(second.id) == "code-mid"


def test_all_equal_ones_are_one_whatever_stands_between() -> None:
    low = on_small(LOW, 8603, has_own_port=False)
    slow = on_small(MID, 8602, has_own_port=False, drain_s=99.0)
    catalog = a_catalog(on_small(MAX), slow, low, profiles=(MAX, MID, LOW))

    assert owners(catalog) == {"code-low": "code-max"}


def test_the_order_of_profiles_counts_not_that_of_the_file() -> None:
    catalog = a_catalog(on_small(MID, has_own_port=False), on_small(MAX, 8602), profiles=(MAX, MID))

    assert owners(catalog) == {"code-mid": "code-max"}


def test_on_the_processor_it_matters_not_which_cards_a_profile_has() -> None:
    plain = a_serving(placement=PlacementMode.MANUAL, context_tokens=MODEL.context_tokens)
    unused = replace(an_instance(MODEL, MID, port=8601, serving=plain, layers=(0,)), has_own_port=True)
    without = replace(an_instance(MODEL, NONE, port=8602, serving=plain, layers=()), has_own_port=False)

    assert owners(a_catalog(unused, without, profiles=(MID, NONE))) == {"code-cpu_only": "code-mid"}


def test_a_port_that_is_given_is_kept() -> None:
    catalog = a_catalog(on_small(MAX), on_small(MID, 8602), profiles=(MAX, MID))

    assert shared(catalog)[0] is catalog


@pytest.mark.parametrize(
    "serving",
    [
        {"drain_s": 99.0},
        {"lease_s": 99.0},
        {"idle_timeout_s": 99.0},
        {"preload": False},
        {"is_pinned": True},
        {"on_change": OnChange.NEVER},
        {"parallel": 3},
        {"arguments": (("threads", 3),)},
    ],
    ids=lambda serving: next(iter(serving)),
)
def test_what_is_served_otherwise_is_another_instance(serving: dict[str, Any]) -> None:
    catalog = a_catalog(on_small(MAX), on_small(MID, 8602, has_own_port=False, **serving), profiles=(MAX, MID))

    assert owners(catalog) == {}


def test_what_is_placed_otherwise_is_another_instance() -> None:
    moved = replace(on_small(MID, 8602, has_own_port=False), layers=(LAYERS - 1,))

    assert owners(a_catalog(on_small(MAX), moved, profiles=(MAX, MID))) == {}


def test_a_foreseen_speed_makes_no_difference() -> None:
    catalog = a_catalog(on_small(MAX), on_small(MID, 8602, has_own_port=False), profiles=(MAX, MID))
    placements = dict(place_all(catalog)[0])
    mid = catalog.instances[1].id
    predicted = placements[mid].predicted
    assert predicted is not None
    placements[mid] = replace(placements[mid], predicted=replace(predicted, decode_tokens_per_s=1.0))

    assert share_instances(catalog, placements, PREPARED).instances[1].shared_with == catalog.instances[0].id


@pytest.mark.parametrize("missing", [0, 1])
def test_what_has_no_place_is_compared_with_nothing(missing: int) -> None:
    catalog = a_catalog(on_small(MAX), on_small(MID, 8602, has_own_port=False), profiles=(MAX, MID))
    placements = dict(place_all(catalog)[0])
    del placements[catalog.instances[missing].id]

    assert share_instances(catalog, placements, PREPARED) is catalog


def instances_of(tree: ArtifactTree) -> dict[str, Mapping[str, str]]:
    """Read the units of instances."""
    units = {LAYOUT.unit_at(path): text_of(artifact) for path, artifact in tree.items()}
    return {unit: unit_keys(text) for unit, text in units.items() if unit and is_instance(unit)}


PROFILES = (MAX, MID, LOW, NONE)
CHOICES = st.sampled_from([8601, None, None, "slow"])


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Make catalogs of up to three models on the small card or none, under any profiles, with or without ports."""
    instances = []
    for place, name in enumerate("abc"[: draw(st.integers(1, 3))]):
        model = a_model(name)
        chosen = draw(st.lists(st.sampled_from(PROFILES), min_size=1, unique_by=lambda profile: profile.name))
        for profile in chosen:
            choice, is_on_card = draw(CHOICES), draw(st.booleans())
            layers = tuple(LAYERS if card is SMALL and is_on_card else 0 for card in profile.cards)
            serving = replace(
                a_serving(placement=PlacementMode.MANUAL, context_tokens=512),
                drain_s=9.0 if choice == "slow" else 30.0,
            )
            port = 8601 + 10 * place + PROFILES.index(profile)
            one = an_instance(model, profile, port=port, serving=serving, layers=layers)
            instances.append(replace(one, has_own_port=choice == 8601))
    return a_catalog(*instances, profiles=PROFILES)


@settings(max_examples=40, deadline=None)
@given(catalogs())
def test_units_and_routes_agree_whatever_is_shared(catalog: Catalog) -> None:
    found, placements = shared(catalog)
    tree = emit(found, placements, read_templates(), LAYOUT)
    units = instances_of(tree)
    models = json.loads(text_of(tree[LAYOUT.routing]))["models"]
    upstreams = [one for model in models for one in model["upstreams"]]

    assert {one["unit"] for one in upstreams} == units.keys()
    for model in models:
        assert len({one["profile"] for one in model["upstreams"]}) == len(model["upstreams"])
    for unit in units:
        alike = [{**one, "profile": ""} for one in upstreams if one["unit"] == unit]
        assert all(one == alike[0] for one in alike)
    before = {unit: listed(keys, "After") for unit, keys in units.items()}
    for unit, keys in units.items():
        rivals = listed(keys, "Conflicts")
        assert unit not in rivals
        assert rivals | before[unit] <= units.keys()
        assert all(unit in listed(units[rival], "Conflicts") for rival in rivals)
    # No circle of units that wait for each other.
    assert tuple(TopologicalSorter(before).static_order())


def listed(keys: Mapping[str, str], name: str) -> set[str]:
    """Name the instances that a unit lists."""
    return {unit for unit in keys.get(f"Unit.{name}", "").split() if is_instance(unit)}
