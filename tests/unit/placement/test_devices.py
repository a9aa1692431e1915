"""Cards and the processor as the speed model sees them."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from kloros_infra.ir.catalog import HostMemory, MeasuredSpeed
from kloros_infra.placement.devices import Correction, card_device, cpu_device, devices_of, generation_of, rpc_device
from tests.factories import GIB, a_card, kloros_cards


def test_the_cards_that_were_fitted_have_their_factors() -> None:
    rtx5080, rtx3060, gtx1080ti, cpu = devices_of(kloros_cards(), cpu_device())

    assert [one.name for one in (rtx5080, rtx3060, gtx1080ti, cpu)] == ["CUDA0", "CUDA1", "CUDA2", "CPU"]
    assert rtx5080.read_bytes_per_s == pytest.approx(960e9 * 0.78)
    assert rtx3060.flops_per_s == pytest.approx(28e12)
    assert (gtx1080ti.dense_layer_s, gtx1080ti.expert_layer_s) == pytest.approx((70e-6, 150e-6))
    assert cpu.read_bytes_per_s == pytest.approx(51.2e9 * 0.62)
    assert (cpu.is_cpu, rtx3060.is_cpu) == (True, False)


def test_what_models_yaml_says_of_a_card_counts_more_than_the_table() -> None:
    card = replace(a_card(), tflops=100.0, link_bytes_per_s=4_000_000_000, layer_overhead_s=30e-6)

    device = card_device("CUDA0", card)

    assert device.flops_per_s == pytest.approx(100e12 * 28 / 51.2)
    assert device.link_bytes_per_s == pytest.approx(0.8 * 4e9)
    assert (device.dense_layer_s, device.expert_layer_s) == pytest.approx((30e-6, 80e-6))


def test_what_models_yaml_says_was_measured_corrects_the_priors() -> None:
    measured = MeasuredSpeed(decode=0.9, prefill=1.2)
    plain, card = card_device("CUDA0", a_card()), card_device("CUDA0", replace(a_card(), measured=measured))

    assert card.read_bytes_per_s == pytest.approx(0.9 * plain.read_bytes_per_s)
    assert card.flops_per_s == pytest.approx(1.2 * plain.flops_per_s)
    assert cpu_device(HostMemory(measured=measured)).flops_per_s == pytest.approx(1.2 * cpu_device().flops_per_s)


def test_a_card_goes_by_what_the_driver_calls_it_before_its_name_here() -> None:
    named = replace(a_card("rtx3060"), model="NVIDIA GeForce RTX 3090")

    assert card_device("CUDA0", named).flops_per_s > 2 * card_device("CUDA0", a_card("rtx3060")).flops_per_s


def test_an_unknown_card_is_guessed_by_its_generation() -> None:
    unknown = a_card("mystery", bandwidth_bytes_per_s=1000 * 10**9, compute_capability=(8, 9))

    device = card_device("CUDA0", unknown)

    assert device.flops_per_s == pytest.approx(250e12 * 0.48)
    assert device.link_bytes_per_s == pytest.approx(0.8 * 15.75e9)


@pytest.mark.parametrize(
    ("capability", "like"), [((8, 7), (8, 6)), ((12, 1), (12, 0)), ((6, 0), (0, 0)), ((7, 2), (7, 0))]
)
def test_a_capability_between_two_takes_the_older_generation(
    capability: tuple[int, int], like: tuple[int, int]
) -> None:
    assert generation_of(capability) == generation_of(like)


def test_measurements_correct_what_is_assumed() -> None:
    before, cpu = devices_of([a_card()], cpu_device())
    after, _ = devices_of([a_card()], cpu, {"rtx3060": Correction(decode=0.5, prefill=2.0, link=0.25)})

    assert after.read_bytes_per_s == before.read_bytes_per_s * 0.5
    assert after.flops_per_s == before.flops_per_s * 2
    assert after.link_bytes_per_s == before.link_bytes_per_s * 0.25
    assert cpu_device(correction=Correction(decode=2.0)).read_bytes_per_s == cpu.read_bytes_per_s * 2


def test_memory_of_the_host() -> None:
    device = cpu_device(HostMemory(bandwidth_bytes_per_s=100 * 10**9, usable_bytes=GIB))

    assert device.read_bytes_per_s == pytest.approx(62e9)
    assert (device.holds(GIB), device.holds(GIB + 1)) == (True, False)
    assert device.without(GIB // 4).usable_bytes == 3 * GIB // 4
    assert device.without(2 * GIB).usable_bytes == 0
    assert cpu_device().without(GIB) == cpu_device()


def test_a_card_of_another_host_is_slow_to_reach_and_has_no_pipeline() -> None:
    here = card_device("CUDA0", a_card())

    there = rpc_device("RPC0", here, network_bytes_per_s=117e6)

    assert (there.name, there.card, there.read_bytes_per_s) == ("RPC0", "rtx3060", here.read_bytes_per_s)
    assert (there.link_bytes_per_s, there.can_pipeline) == (117e6, False)
    assert there.hop_s > here.hop_s


def test_like_cards_are_of_one_kind() -> None:
    first, second, other, _ = devices_of([a_card("a"), a_card("b"), a_card("c", vram_bytes=GIB)], cpu_device())

    assert first.kind == second.kind
    assert first.kind != other.kind


@pytest.mark.parametrize("key", ["read_bytes_per_s", "flops_per_s", "link_bytes_per_s"])
@pytest.mark.parametrize("value", [nan, inf, 0.0, -1.0])
def test_rates_that_cannot_be_are_noticed(key: str, value: float) -> None:
    device = card_device("CUDA0", a_card())

    assert device.is_sound
    changed: dict[str, Any] = {key: value}
    assert not replace(device, **changed).is_sound


@pytest.mark.parametrize("value", [nan, inf, -1.0])
def test_waits_that_cannot_be_are_noticed(value: float) -> None:
    assert not replace(card_device("CUDA0", a_card()), hop_s=value).is_sound
