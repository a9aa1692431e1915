"""Measurements become the factors that explain them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.ir.bench import Measurement
from kloros_infra.ir.catalog import HostMemory, Instance, MeasuredSpeed, ModelKind, PlacementMode
from kloros_infra.ir.placement import CPU, Placement, RemoteDevice, TensorException
from kloros_infra.placement.bench import (
    LEAST,
    MOST,
    bench_depths,
    foreseen,
    is_credible,
    is_too_deep,
    measured_devices,
    measured_speed,
    prior_devices,
    why_unmeasurable,
)
from kloros_infra.placement.place import Machine, place
from kloros_infra.placement.published import derive_header
from tests.factories import GIB, a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights
from tests.overrider_cases import header_of
from tests.sparse_models import FAMILIES

MACHINE = Machine(HostMemory(usable_bytes=64 * GIB))


def an_8b(*, cards: int = 1, context: int = 8192, mode: PlacementMode = PlacementMode.AUTO) -> Instance:
    header = derive_header("llama-3.1-8b", "Q4_K_M")
    assert header is not None
    model = a_model(weights=some_weights(header=header), context_tokens=context)
    profile = a_profile("max", *kloros_cards()[:cards])
    return an_instance(model, profile, serving=a_serving(context_tokens=context, placement=mode))


def placed(instance: Instance) -> Placement:
    placement, problems = place(instance, MACHINE)
    assert placement is not None, problems
    return placement


def as_measured(instance: Instance, placement: Placement, *, decode: float, prefill: float) -> tuple[Measurement, ...]:
    """Measure what a machine would show whose cards are so much faster than their kind."""
    cards = tuple(replace(card, measured=MeasuredSpeed(decode, prefill)) for card in instance.profile.cards)
    faster = replace(instance, profile=replace(instance.profile, cards=cards))
    speeds = [(depth, foreseen(faster, placement, MACHINE.devices(faster), depth)) for depth in (512, 4096)]
    return tuple(Measurement(depth, one.prefill_tokens_per_s, one.decode_tokens_per_s) for depth, one in speeds)


AN_8B = an_8b()
AN_8B_PLACED = placed(AN_8B)


@pytest.mark.untraced
@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 3.0), st.floats(0.2, 3.0))
def test_the_factors_that_made_a_measurement_are_found(decode: float, prefill: float) -> None:
    shown = as_measured(AN_8B, AN_8B_PLACED, decode=decode, prefill=prefill)
    found = measured_speed(AN_8B, AN_8B_PLACED, prior_devices(AN_8B, MACHINE), shown)
    assert found.decode == pytest.approx(decode, rel=0.01)
    assert found.prefill == pytest.approx(prefill, rel=0.01)


def test_what_was_measured_before_does_not_count_twice() -> None:
    cards = tuple(replace(card, measured=MeasuredSpeed(2.0, 2.0)) for card in kloros_cards()[:1])
    corrected = replace(an_8b(), profile=a_profile("max", *cards))
    host = Machine(replace(MACHINE.memory, measured=MeasuredSpeed(0.5, 0.5)))
    assert prior_devices(corrected, host) == prior_devices(an_8b(), MACHINE)
    assert host.devices(corrected) != prior_devices(corrected, host)


def test_measurements_beyond_all_measure_are_held_in_bounds() -> None:
    instance = an_8b()
    devices = prior_devices(instance, MACHINE)
    found = measured_speed(instance, placed(instance), devices, [Measurement(512, 1e12, 1e-9)])
    assert found == MeasuredSpeed(LEAST, MOST)
    assert not is_credible(found)


@pytest.mark.parametrize(
    ("decode", "prefill", "is_good"),
    [(1.0, 1.0, True), (LEAST, 1.0, False), (1.0, LEAST, False), (MOST, 1.0, False), (1.0, MOST, False)],
)
def test_a_factor_at_a_bound_is_not_credible(decode: float, prefill: float, *, is_good: bool) -> None:
    assert is_credible(MeasuredSpeed(decode, prefill)) is is_good


def test_a_prompt_leaves_room_for_what_is_generated() -> None:
    instance = an_8b(context=2048)
    assert not is_too_deep(instance, 2048 - 32)
    assert is_too_deep(instance, 2048 - 31)
    assert not any(is_too_deep(an_8b(context=256), depth) for depth in bench_depths(an_8b(context=256)))


def test_what_is_foreseen_at_half_the_context_is_what_the_placement_foresees() -> None:
    experts = an_instance(
        a_model(weights=some_weights(header=header_of(FAMILIES["qwen3-30b-a3b"]()))),
        a_profile("mid", kloros_cards()[1]),
        serving=a_serving(context_tokens=8192),
    )
    for instance in (an_8b(cards=3), experts):
        placement = placed(instance)
        assert placement.predicted is not None
        speed = foreseen(instance, placement, prior_devices(instance, MACHINE), placement.predicted.depth_tokens)
        assert speed.decode_tokens_per_s == pytest.approx(placement.predicted.decode_tokens_per_s)
        assert speed.prefill_tokens_per_s == pytest.approx(placement.predicted.prefill_tokens_per_s)
        assert speed.splits == placement.predicted.splits
    assert measured_devices(placed(experts)) == ("rtx3060", None)


@pytest.mark.parametrize(("context", "depths"), [(512, (256,)), (2048, (512, 1024)), (32768, (512, 4096))])
def test_prompts_are_as_long_as_the_context_allows(context: int, depths: tuple[int, ...]) -> None:
    assert bench_depths(an_8b(context=context)) == depths


def test_what_tells_nothing_is_not_measured() -> None:
    instance = an_8b()
    placement = placed(instance)
    assert why_unmeasurable(instance, placement) is None
    embedding = replace(instance, model=replace(instance.model, kind=ModelKind.EMBEDDING))
    single = replace(placement, exceptions=(TensorException("^blk[.]1[.]ffn_up[.]", CPU),))
    remote = replace(placement, remotes=(RemoteDevice("RPC0", "10.0.0.1:50052", 0),))
    fit = an_8b(mode=PlacementMode.FIT)
    for which, how, reason in (
        (embedding, placement, "generates no tokens"),
        (fit, placed(fit), "llama-server itself"),
        (instance, remote, "another host"),
        (instance, single, "single tensors"),
    ):
        assert reason in (why_unmeasurable(which, how) or "")
