"""Neighbours found for all instances at once are those that each would find for itself."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.surroundings import surroundings
from kloros_infra.ir.catalog import Catalog, Instance
from tests.factories import a_catalog, a_model, a_profile, an_instance, kloros_cards

CARDS = kloros_cards()
PROFILES = st.lists(st.frozensets(st.sampled_from(range(3))), min_size=1, max_size=4)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Make catalogs of up to four models under some of up to four profiles, in any order."""
    chosen = draw(PROFILES)
    profiles = tuple(
        a_profile(f"p{place}", *(CARDS[one] for one in sorted(cards))) for place, cards in enumerate(chosen)
    )
    pairs = [(model, profile) for model in "abcd" for profile in profiles]
    used = draw(st.lists(st.sampled_from(pairs), min_size=1, unique_by=lambda pair: (pair[0], pair[1].name)))
    models = {name: a_model(name) for name in "abcd"}
    return a_catalog(*(an_instance(models[model], profile) for model, profile in used), profiles=profiles)


def rivals(one: Instance, catalog: Catalog) -> Iterator[Instance]:
    """Find instances of the same model under other profiles."""
    return (other for other in catalog.instances if other.model == one.model and other.profile != one.profile)


def predecessors(one: Instance, catalog: Catalog) -> Iterator[Instance]:
    """Find instances of earlier profiles that share a card or the model."""
    earlier = catalog.profiles[: catalog.profiles.index(one.profile)]
    for other in catalog.instances:
        shares = set(other.profile.cards) & set(one.profile.cards)
        if other.profile in earlier and (shares or other.model == one.model):
            yield other


@given(catalogs())
def test_neighbours_are_those_that_each_instance_would_find(catalog: Catalog) -> None:
    found = surroundings(catalog)

    assert found.keys() == {one.id for one in catalog.instances}
    for one in catalog.instances:
        around = found[one.id]
        assert around.conflicts.split() == sorted(other.id.unit for other in rivals(one, catalog))
        assert around.after.split() == sorted(other.id.unit for other in predecessors(one, catalog))
        assert around.sandbox == catalog.sandbox
        assert around.systemd_version == catalog.systemd_version
