"""What others take of the cards, from what the driver says and which processes are ours."""

from __future__ import annotations

from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.routing import RoutedCapacity, RoutedCard, RoutedProfile, RoutingTable
from kloros_infra.ir.seen_card import SeenCard
from kloros_infra.router.card_use import MIB, foreign_mib
from tests.unit.router.told import a_model, a_table

ONE = RoutedCard(name="one", uuid="GPU-1", pci=None)
TWO = RoutedCard(name="two", uuid=None, pci="0000:04:00.0")


def the_table(*more: RoutedCard) -> RoutingTable:
    cards = (ONE, TWO, *more)
    capacities = tuple(RoutedCapacity(card=card.name, mib=10_000) for card in cards)
    profiles = (RoutedProfile(name="max", cards=cards), RoutedProfile(name="mid", cards=(ONE,)))
    return a_table(a_model("a"), a_model("b")).model_copy(update={"profiles": profiles, "capacities": capacities})


def seen(used_mib: int, held_mib: dict[int, int] | None = None, *, pci: str | None = None) -> SeenCard:
    held = {pid: mib * MIB for pid, mib in (held_mib or {}).items()}
    uuid = "GPU-1" if pci is None else "GPU-other"
    return SeenCard(uuid, pci or "0000:01:00.0", 12_000 * MIB, used_mib * MIB, held)


def test_what_a_card_has_beyond_its_capacity_is_taken_from_nobody() -> None:
    for used_mib, foreign in ((0, 0), (1_900, 0), (2_000, 0), (2_001, 1), (9_000, 7_000)):
        assert foreign_mib(the_table(), [seen(used_mib)], {}) == {"one": foreign}


def test_what_our_instances_hold_is_not_foreign() -> None:
    card = seen(9_000, {7: 3_000, 8: 1_000, 99: 500})
    assert foreign_mib(the_table(), [card], {"a-max": (7,), "b-max": (6, 8)}) == {"one": 3_000}


def test_cards_are_known_by_uuid_or_by_address() -> None:
    cards = [seen(2_500), seen(4_000, pci="0000:04:00.0")]
    assert foreign_mib(the_table(), cards, {}) == {"one": 500, "two": 2_000}


def test_a_card_is_left_out_where_an_instance_that_uses_it_is_not_counted() -> None:
    cards = [seen(9_000, {7: 3_000}), seen(4_000, pci="0000:04:00.0")]
    assert foreign_mib(the_table(), cards, {"a-max": (7,), "b-max": (8,)}) == {"two": 2_000}


def test_cards_without_a_capacity_and_those_of_other_hosts_are_left_out() -> None:
    link = RemoteLink("10.0.0.9", (50052,), 10**9)
    far = RoutedCard(name="far", uuid="GPU-1", pci=None, remote=link)
    table = the_table(far)
    assert foreign_mib(table, [seen(3_000)], {}) == {"one": 1_000}
    assert foreign_mib(table.model_copy(update={"capacities": ()}), [seen(3_000)], {}) == {}


def test_where_no_card_is_awake_nobody_uses_one() -> None:
    assert foreign_mib(the_table(), [], {}) == {"one": 0, "two": 0}
