"""Instances of one profile share its cards."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import HostMemory, Instance, PlacementMode
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.place import Machine, check_together, place
from kloros_infra.placement.published import derive_header
from kloros_infra.placement.residents import place_profile
from tests.factories import GIB, a_card, a_model, a_profile, a_serving, an_instance, some_weights

FAST = a_card("rtx3090", vram_bytes=24 * GIB, bandwidth_bytes_per_s=936 * 10**9)
SLOW = a_card("rtx3060")


def an_8b(
    name: str, *, preload: bool = True, mode: PlacementMode = PlacementMode.AUTO, context_tokens: int = 8192
) -> Instance:
    """Build a Llama 8B (4.3 GiB and a GiB of context) on both cards."""
    header = derive_header("llama-3.1-8b", "Q4_K_M")
    assert header is not None
    model = a_model(name, weights=some_weights(name, header=header), context_tokens=context_tokens)
    serving = a_serving(context_tokens=context_tokens, preload=preload, placement=mode)
    return an_instance(model, a_profile("max", FAST, SLOW), serving=serving)


def bytes_on(card: str, *placements: Placement) -> int:
    return sum(load.total_bytes for placement in placements for load in placement.loads if load.card == card)


def test_each_server_has_a_context_on_its_card() -> None:
    """As many small models as fit by their own bytes are too many: each server holds a context beside them."""
    card = a_card("rtx3060")
    model = an_8b("any").model
    weights = a_model("m", weights=model.weights, context_tokens=2048)
    serving = a_serving(context_tokens=2048)
    one = an_instance(weights, a_profile("mid", card), serving=serving)
    placement = place(one)[0]
    assert placement is not None
    each = placement.loads[0].total_bytes
    tight = replace(card, vram_bytes=card.reserve_bytes + 2 * each)
    two = [an_instance(a_model(n, weights=model.weights), a_profile("mid", tight), serving=serving) for n in "ab"]
    roomy = replace(tight, vram_bytes=tight.vram_bytes + CONTEXT_BYTES)
    both = [an_instance(a_model(n, weights=model.weights), a_profile("mid", roomy), serving=serving) for n in "ab"]

    alone, _ = place_profile(two)
    together, _ = place_profile(both)

    assert [problem.code for problem in check_together(alone)] == ["KI402"]
    assert check_together(together) == ()


def test_what_models_take_of_the_host_is_added_up() -> None:
    serving = a_serving(context_tokens=2048)
    model = an_8b("any").model
    both = [an_instance(a_model(n, weights=model.weights), a_profile("cpu_only"), serving=serving) for n in "ab"]
    placed = {one.id: place(one, Machine(HostMemory(usable_bytes=8 * GIB)))[0] for one in both}

    (problem,) = check_together({id: placement for id, placement in placed.items() if placement})

    assert "the host has 8192 MiB" in problem.detail


def test_a_model_that_is_too_large_for_the_host_is_refused() -> None:
    model = an_8b("any").model
    instance = an_instance(model, a_profile("cpu_only"), serving=a_serving(context_tokens=2048))

    placement, (problem,) = place(instance, Machine(HostMemory(usable_bytes=2 * GIB)))

    assert placement is None
    assert (problem.code, "on the host and has 2048 MiB" in problem.detail) == ("KI401", True)


def test_a_single_instance_is_placed_as_if_alone() -> None:
    instance = an_8b("one")

    placements, problems = place_profile([instance])

    assert placements == {instance.id: place(instance)[0]}
    assert problems == ()


def test_preloaded_instances_fit_together() -> None:
    instances = [an_8b(name) for name in ("a", "b", "c", "d", "e")]

    placements, problems = place_profile(instances)

    assert problems == ()
    assert list(placements) == [instance.id for instance in instances]
    for card in (FAST, SLOW):
        assert bytes_on(card.name, *placements.values()) <= card.usable_bytes
        capacities = {
            load.capacity_bytes for one in placements.values() for load in one.loads if load.card == card.name
        }
        assert capacities <= {card.usable_bytes}


def test_the_order_in_the_file_does_not_count() -> None:
    instances = [an_8b(name, context_tokens=size) for name, size in (("a", 8192), ("b", 65536), ("c", 16384))]

    forward, _ = place_profile(instances)
    backward, _ = place_profile(instances[::-1])

    assert sum(_seconds(one) for one in forward.values()) <= sum(_seconds(one) for one in backward.values()) * 1.001
    assert {id: one.fits for id, one in forward.items()} == {id: one.fits for id, one in backward.items()}


def _seconds(placement: Placement) -> float:
    assert placement.predicted is not None
    return 4 / placement.predicted.prefill_tokens_per_s + 1 / placement.predicted.decode_tokens_per_s


def test_what_models_yaml_places_itself_does_not_give_way() -> None:
    fixed = replace(an_8b("fixed", mode=PlacementMode.MANUAL), layers=(33, 0))
    large = an_8b("large", context_tokens=131072)

    placements, problems = place_profile([large, fixed])

    assert problems == ()
    assert placements[fixed.id] == place(fixed)[0]
    assert bytes_on("rtx3090", *placements.values()) <= FAST.usable_bytes
    assert bytes_on("rtx3060", placements[large.id]) > 0


def test_what_llama_server_places_at_its_start_is_not_counted() -> None:
    fit, other = an_8b("fit", mode=PlacementMode.FIT), an_8b("other")

    placements, _ = place_profile([fit, other])

    assert placements[other.id] == place(other)[0]


def test_on_demand_an_instance_takes_what_is_left_if_that_is_nearly_as_fast() -> None:
    resident, guest = an_8b("resident"), an_8b("guest", preload=False)

    placements, _ = place_profile([guest, resident])

    assert bytes_on("rtx3090", *placements.values()) <= FAST.usable_bytes


def test_on_demand_an_instance_makes_others_give_way_rather_than_be_much_slower() -> None:
    resident = an_8b("resident", context_tokens=131072)
    guest = an_8b("guest", preload=False, context_tokens=65536)

    placements, problems = place_profile([resident, guest])

    assert problems == ()
    assert placements[guest.id] == place(guest)[0]
    assert bytes_on("rtx3090", *placements.values()) > FAST.usable_bytes


def test_those_that_find_no_room_are_placed_as_if_alone() -> None:
    """That both are too much together is then told of both (`place.check_together`)."""
    instances = [an_8b(name, context_tokens=131072) for name in ("a", "b")]

    placements, problems = place_profile(instances)

    assert problems == ()
    assert len(placements) == 2
    assert bytes_on("rtx3090", *placements.values()) > FAST.usable_bytes


def test_host_memory_takes_what_the_cards_do_not() -> None:
    instances = [an_8b(name, context_tokens=131072) for name in ("a", "b")]

    placements, problems = place_profile(instances, Machine(HostMemory(usable_bytes=64 * GIB)))

    assert {problem.code for problem in problems} == {"KI411"}
    assert any(CPU in placement.layer_devices for placement in placements.values())
    assert bytes_on("rtx3090", *placements.values()) <= FAST.usable_bytes


def test_one_that_cannot_be_placed_is_told_once() -> None:
    overrider, other = an_8b("o", mode=PlacementMode.OVERRIDER), an_8b("other")

    placements, problems = place_profile([overrider, other])

    assert list(placements) == [other.id]
    assert [problem.code for problem in problems] == ["KI403"]
