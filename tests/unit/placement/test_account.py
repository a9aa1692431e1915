"""What takes a device's memory, as people read it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import HostMemory
from kloros_infra.ir.gguf import group_tensors
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement, TensorException
from kloros_infra.placement.account import Departure, accounts, bytes_by_card, departures, neighbours, runs_text
from kloros_infra.placement.engines.interface import FIT
from tests.factories import GIB, a_card, a_gguf_header, a_model, a_profile, a_serving, a_tensor, an_instance

HOST = HostMemory(usable_bytes=32 * GIB)


def a_placement(*loads: DeviceLoad, layer_devices: tuple[str, ...], engine: str = "solver") -> Placement:
    return Placement(engine, layer_devices, (), loads, context_tokens=2048, parallel=1, micro_batch=512)


CARD_LOAD = DeviceLoad("CUDA0", "rtx3060", 2, 4 * GIB, 2 * GIB, GIB, 11 * GIB, extra_bytes=GIB)
CPU_LOAD = DeviceLoad(CPU, None, 1, GIB, GIB, 0, 32 * GIB)
MIXED = a_placement(CARD_LOAD, CPU_LOAD, layer_devices=(CPU, "CUDA0", "CUDA0", "CUDA0"))
INSTANCE = an_instance(profile=a_profile("max", a_card(vram_bytes=12 * GIB, reserve_bytes=GIB)))


def test_a_card_s_memory_is_accounted_for_to_the_byte() -> None:
    card, cpu = accounts(INSTANCE, MIXED, memory=HOST)

    assert (card.name, card.layers, card.has_head, card.used_bytes) == ("rtx3060 (CUDA0)", (1, 2), True, 8 * GIB)
    assert card.free_bytes == 3 * GIB
    assert sum(size for _, size in card.parts) == card.total_bytes == 12 * GIB
    assert (cpu.name, cpu.layers, cpu.has_head, cpu.free_bytes) == (CPU, (0,), False, 30 * GIB)


def test_what_others_take_of_a_card_is_not_free() -> None:
    started_too = replace(MIXED, loads=(replace(CARD_LOAD, extra_bytes=0), CPU_LOAD))
    by_itself = replace(MIXED, engine=FIT)

    card, cpu = accounts(INSTANCE, MIXED, memory=HOST, others=(started_too, by_itself))

    assert (card.others_bytes, card.free_bytes) == (7 * GIB + CONTEXT_BYTES, -4 * GIB - CONTEXT_BYTES)
    assert dict(card.parts)["free"] == 0
    assert cpu.others_bytes == 2 * GIB
    assert bytes_by_card((started_too, by_itself)) == {"rtx3060": 7 * GIB + CONTEXT_BYTES, None: 2 * GIB}


def test_memory_of_which_nobody_tells_has_no_rest() -> None:
    _, cpu = accounts(INSTANCE, MIXED, memory=HostMemory())

    assert cpu.free_bytes is None
    assert dict(cpu.parts)["free"] == 0


def test_neighbours_are_what_the_same_profile_starts() -> None:
    profile, other = a_profile("max", a_card()), a_profile("mid", a_card())
    one = an_instance(a_model("one"), profile)
    started = an_instance(a_model("started"), profile)
    waiting = an_instance(a_model("waiting"), profile, serving=a_serving(preload=False))
    elsewhere = an_instance(a_model("elsewhere"), other)
    unplaced = an_instance(a_model("unplaced"), profile)
    everything = (one, started, waiting, elsewhere, unplaced)
    placements = {each.id: replace(MIXED, micro_batch=number) for number, each in enumerate(everything[:-1])}

    assert neighbours(one.id, everything, placements) == (placements[started.id],)


def test_what_is_away_from_its_layer_is_gathered() -> None:
    experts = [
        a_tensor(f"blk.{layer}.ffn_{kind}_exps.weight", 64, 32, 4) for layer in range(4) for kind in ("up", "down")
    ]
    header = a_gguf_header(layers=4)
    plain = [a_tensor(f"blk.{layer}.attn_q.weight", 64, 64) for layer in range(4)]
    header = replace(header, tensors=group_tensors([a_tensor("output.weight", 64, 512), *experts, *plain]))
    rules = (
        TensorException("^blk[.][12][.]ffn_[a-z_]+_exps[.]", CPU),
        TensorException("^blk[.]3[.]", "CUDA1"),
        TensorException("^blk[.]0[.]", "CUDA0"),
    )
    placement = replace(MIXED, layer_devices=("CUDA0",) * 5, exceptions=rules)

    assert departures(header, placement) == (
        Departure("attn_q", (3,), "CUDA1", plain[0].size_bytes),
        Departure("experts", (1, 2), CPU, 4 * experts[0].size_bytes),
        Departure("experts", (3,), "CUDA1", 2 * experts[0].size_bytes),
    )
    assert departures(a_gguf_header(), MIXED) == ()


@pytest.mark.parametrize(
    ("numbers", "expected"), [((), ""), ((3,), "3"), ((0, 1, 2), "0-2"), ((0, 1, 4, 6, 7), "0-1, 4, 6-7")]
)
def test_numbers_are_written_as_runs(numbers: tuple[int, ...], expected: str) -> None:
    assert runs_text(numbers) == expected
