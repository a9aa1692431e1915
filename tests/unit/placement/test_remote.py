"""Cards of other hosts: how they are named, how they are placed, and what llama-server is told of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import Card, HostMemory, Instance, PlacementMode, Preference, RemoteLink, RpcHost
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement, TensorException
from kloros_infra.placement.arguments import arguments, works_alone
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.load_check import compare
from kloros_infra.placement.load_report import parse_load_report
from kloros_infra.placement.memory import Workload
from kloros_infra.placement.place import place
from kloros_infra.placement.remote import device_names, numbered, used_remotely
from kloros_infra.placement.remote_check import crowded_cards
from kloros_infra.placement.solve_dense import solve_runs
from kloros_infra.placement.solve_experts import candidates
from kloros_infra.placement.solve_space import Space
from kloros_infra.placement.speed import in_runs, speed_of
from tests.exhaustive_placement import an_expert_header
from tests.factories import (
    GIB,
    a_7b_header,
    a_card,
    a_gguf_header,
    a_model,
    a_profile,
    a_serving,
    an_instance,
    some_weights,
)

MIB = 2**20


def a_link(address: str, *ports: int) -> RemoteLink:
    return RemoteLink(address, ports, bandwidth_bytes_per_s=117_000_000)


HERE = a_card("here")
ATTIC = tuple(replace(a_card(f"attic{n}", host="attic"), remote=a_link("10.0.0.7", 50052)) for n in (1, 2))
CELLAR = replace(a_card("cellar1", host="cellar"), remote=a_link("10.0.0.8", 50060))
PROFILE = a_profile("max", ATTIC[0], CELLAR, HERE, ATTIC[1])


def an_rpc_host(name: str, address: str, instance: Instance, port: int) -> RpcHost:
    return RpcHost(name, address, "lan0", "/opt/ggml-rpc-server", ("10.0.0.3",), ((instance.id, port),))


def a_placement(layers: tuple[int, ...]) -> tuple[Placement, Instance, tuple[RpcHost, ...]]:
    """Give the cards of the profile so many of four layers and the head."""
    model = a_model(weights=some_weights(header=a_gguf_header(layers=4)))
    serving = a_serving(context_tokens=1024, placement=PlacementMode.MANUAL)
    instance = an_instance(model, PROFILE, serving=serving, layers=layers)
    placement, _ = place(instance)
    assert placement is not None
    hosts = an_rpc_host("attic", "10.0.0.7", instance, 50052), an_rpc_host("cellar", "10.0.0.8", instance, 50060)
    return placement, instance, hosts


def test_cards_are_named_as_if_all_were_used() -> None:
    assert device_names(PROFILE.cards) == {"here": "CUDA0", "attic1": "RPC0", "attic2": "RPC1", "cellar1": "RPC2"}
    assert [device.name for device in devices_of(PROFILE.cards, cpu_device())] == ["RPC0", "RPC2", "CUDA0", "RPC1", CPU]
    assert device_names(a_profile("mid", HERE).cards) == {"here": "CUDA0"}


def test_names_close_up_where_a_card_is_not_used() -> None:
    before, instance, hosts = a_placement((0, 2, 2, 1))

    after = numbered(before, instance, hosts)

    assert used_remotely(before, instance) == (ATTIC[1], CELLAR)
    assert before.layer_devices == ("RPC2", "RPC2", "CUDA0", "CUDA0", "RPC1")
    assert after.layer_devices == ("RPC1", "RPC1", "CUDA0", "CUDA0", "RPC0")
    assert [(load.device, load.card) for load in after.loads] == [
        ("RPC1", "cellar1"),
        ("CUDA0", "here"),
        ("RPC0", "attic2"),
        (CPU, None),
    ]
    assert [(one.device, one.buffer) for one in after.remotes] == [
        ("RPC0", "RPC0[10.0.0.7:50052]"),
        ("RPC1", "RPC0[10.0.0.8:50060]"),
    ]


def test_a_server_with_two_cards_numbers_them_itself() -> None:
    before, instance, hosts = a_placement((2, 1, 0, 2))

    after = numbered(before, instance, hosts)

    assert after.layer_devices == ("RPC0", "RPC0", "RPC2", "RPC1", "RPC1")
    assert [one.buffer for one in after.remotes] == [
        "RPC0[10.0.0.7:50052]",
        "RPC1[10.0.0.7:50052]",
        "RPC0[10.0.0.8:50060]",
    ]
    assert after.endpoints == ("10.0.0.7:50052", "10.0.0.8:50060")


def test_a_plan_without_other_hosts_says_nothing_of_them() -> None:
    placement, instance, hosts = a_placement((0, 0, 5, 0))

    assert numbered(placement, instance, hosts) == placement
    assert "LLAMA_ARG_RPC" not in dict(arguments(placement))


def test_a_bottleneck_goes_by_its_new_name() -> None:
    before, instance, hosts = a_placement((0, 5, 0, 0))
    assert before.predicted is not None
    slow = replace(before, predicted=replace(before.predicted, bottleneck="RPC2"))

    after, unpredicted = (numbered(one, instance, hosts) for one in (slow, replace(before, predicted=None)))

    assert after.predicted is not None
    assert after.predicted.bottleneck == "RPC0"
    assert unpredicted.predicted is None


def test_llama_server_is_told_of_servers_in_the_order_of_the_names() -> None:
    before, instance, hosts = a_placement((2, 1, 1, 1))
    exceptions = TensorException("^blk[.]0[.]", "RPC1"), TensorException("^blk[.]1[.]", "CUDA0")

    settings = dict(arguments(numbered(replace(before, exceptions=exceptions), instance, hosts)))

    assert settings["LLAMA_ARG_RPC"] == "10.0.0.7:50052,10.0.0.8:50060"
    assert settings["LLAMA_ARG_DEVICE"] == "RPC0,RPC2,CUDA0,RPC1"
    assert settings["LLAMA_ARG_OVERRIDE_TENSOR"] == "^blk[.]0[.]=RPC1[10.0.0.7:50052],^blk[.]1[.]=CUDA0"


def test_the_processor_works_alone_behind_a_card_elsewhere() -> None:
    spilled, instance, hosts = a_placement((2, 0, 1, 0))
    away = numbered(spilled, instance, hosts)
    own_first = replace(away, loads=(away.loads[1], away.loads[0], away.loads[2]))

    assert works_alone(away)
    assert not works_alone(own_first)
    assert not works_alone(numbered(*a_placement((4, 0, 1, 0))))
    assert not works_alone(numbered(*a_placement((0, 0, 2, 0))))


def a_log(*listed: str) -> list[str]:
    """Write what a llama-server says of three devices on two servers."""
    return [
        *listed,
        "load_tensors: RPC0[10.0.0.7:50052] model buffer size =     1.00 MiB",
        "load_tensors: RPC1[10.0.0.7:50052] model buffer size =     2.00 MiB",
        "load_tensors: RPC0[10.0.0.8:50060] model buffer size =     4.00 MiB",
    ]


def test_buffers_of_several_servers_are_told_apart_by_their_list() -> None:
    listed = (
        "common_param:   - RPC0    : 10.0.0.7:50052 (24105 MiB, 24105 MiB free)",
        "common_param:   - RPC1    : 10.0.0.7:50052 (24105 MiB, 24105 MiB free)",
        "common_param:   - RPC2    : 10.0.0.8:50060 (24105 MiB, 24105 MiB free)",
        "common_param:   - CPU     : AMD EPYC (24105 MiB, 24105 MiB free)",
        "llama_prepare_model_devices: using device RPC2 (10.0.0.8:50060) (unknown id) - 24105 MiB free",
        "llama_prepare_model_devices: using device RPC0 (10.0.0.7:50052) (unknown id) - 24105 MiB free",
    )

    report = parse_load_report(a_log(*listed))

    assert report.devices == ("RPC0", "RPC1", "RPC2")
    assert report.total_bytes() == {"RPC0": MIB, "RPC1": 2 * MIB, "RPC2": 4 * MIB}


def test_what_is_used_says_as_much_where_nothing_is_listed() -> None:
    used = (
        "llama_model_load_from_file_impl: using device RPC0 (10.0.0.7:50052) - 24105 MiB free",
        "llama_model_load_from_file_impl: using device RPC1 (10.0.0.7:50052) - 24105 MiB free",
        "llama_model_load_from_file_impl: using device RPC2 (10.0.0.8:50060) - 24105 MiB free",
    )

    assert parse_load_report(a_log(*used)).total_bytes() == {"RPC0": MIB, "RPC1": 2 * MIB, "RPC2": 4 * MIB}


def test_a_server_that_is_listed_with_too_few_devices_goes_by_its_own_numbers() -> None:
    listed = "common_param:   - RPC2    : 10.0.0.8:50060 (24105 MiB, 24105 MiB free)"

    assert parse_load_report(a_log(listed)).total_bytes() == {"RPC0": MIB, "RPC1": 2 * MIB, "RPC2": 4 * MIB}


def test_layers_on_the_wrong_one_of_two_servers_are_noticed() -> None:
    before, instance, hosts = a_placement((0, 3, 0, 2))
    placement = numbered(before, instance, hosts)
    by_card = {load.card: load for load in placement.loads}

    def log(first: str, second: str) -> list[str]:
        held = {first: by_card["attic2"], second: by_card["cellar1"]}
        return [
            "common_param:   - RPC0    : 10.0.0.7:50052 (24105 MiB, 24105 MiB free)",
            "common_param:   - RPC1    : 10.0.0.8:50060 (24105 MiB, 24105 MiB free)",
            *(f"x: RPC0[{one}] model buffer size = {load.weights_bytes / MIB:.2f} MiB" for one, load in held.items()),
            *(f"x: RPC0[{one}] KV buffer size = {load.kv_bytes / MIB:.2f} MiB" for one, load in held.items()),
        ]

    as_placed = parse_load_report(log("10.0.0.7:50052", "10.0.0.8:50060"))
    assert compare(placement, as_placed) == ()
    grown = replace(
        placement,
        loads=tuple(
            replace(load, weights_bytes=load.weights_bytes + 8 * MIB * (load.card == "cellar1"))
            for load in placement.loads
        ),
    )
    assert [problem.code for problem in compare(grown, as_placed)] == ["KI572"]


def linked(card: Card) -> RemoteLink:
    assert card.remote is not None
    return card.remote


def a_space(header: GgufHeader, *cards: Card, memory: HostMemory | None = None) -> Space:
    costs = model_costs(header, Workload(context_tokens=4096, parallel=1, micro_batch=512))
    return Space(costs, devices_of(cards, cpu_device(memory)), Preference())


def test_the_answers_of_a_head_elsewhere_cross_the_network() -> None:
    space = a_space(a_7b_header(), HERE, CELLAR)
    slots = len(space.costs.layers)
    layers = ("RPC0",) * (slots - 1) + ("CUDA0",), ("CUDA0",) * (slots - 1) + ("RPC0",)

    at_home, away = (speed_of(space.costs, in_runs(tuple(dict.fromkeys(one)), one), space.by_name) for one in layers)

    network_s = 4 * a_7b_header().vocabulary_size / 117_000_000
    assert away.decode_s == pytest.approx(at_home.decode_s + network_s)


def test_a_prompt_has_to_cross_the_network() -> None:
    """At a megabyte a second no more tokens can be read than their embeddings get through."""
    slow = replace(CELLAR, remote=replace(linked(CELLAR), bandwidth_bytes_per_s=10**6))
    instance = an_instance(a_model(weights=some_weights(header=a_7b_header())), a_profile("far", slow))

    placement, _ = place(instance)

    assert placement is not None
    assert placement.predicted is not None
    assert placement.predicted.prefill_tokens_per_s < 10**6 / (4 * a_7b_header().embedding_length)


def test_a_card_elsewhere_does_nothing_for_the_processor() -> None:
    space = a_space(a_7b_header(), HERE, CELLAR, memory=HostMemory(usable_bytes=64 * GIB))
    slots = len(space.costs.layers)
    layers = (CPU,) * 8 + ("RPC0",) * (slots - 8)

    behind_it = speed_of(space.costs, in_runs(("RPC0",), layers), space.by_name)
    near = replace(space.by_name["RPC0"], is_remote=False, link_bytes_per_s=1e12)

    assert (
        behind_it.prefill_s
        > speed_of(space.costs, in_runs(("RPC0",), layers), {**space.by_name, "RPC0": near}).prefill_s
    )


def test_layers_stay_with_the_processor_only_before_a_card_of_this_machine() -> None:
    small_here, small_there = (replace(card, vram_bytes=3 * GIB) for card in (HERE, CELLAR))
    memory = HostMemory(usable_bytes=64 * GIB)

    mixed = solve_runs(a_space(a_7b_header(), small_there, small_here, memory=memory))
    remote = solve_runs(a_space(a_7b_header(), small_there, memory=memory))

    assert mixed is not None
    assert remote is not None
    assert CPU not in mixed.assignment.layer_devices or mixed.assignment.cards[0] == "CUDA0"
    assert CPU in remote.assignment.layer_devices


def test_experts_are_computed_behind_a_card_of_this_machine() -> None:
    header = an_expert_header(4)

    mixed = candidates(a_space(header, CELLAR, HERE, memory=HostMemory(usable_bytes=64 * GIB)))
    remote = candidates(a_space(header, CELLAR, memory=HostMemory(usable_bytes=64 * GIB)))

    assert {candidate.order[0].name for candidate in mixed} == {"CUDA0"}
    assert {candidate.order[0].name for candidate in remote} == {"RPC0"}


def crowded(*instances: tuple[str, str, bool], vram_mib: int) -> list[tuple[str, str]]:
    """Place small models by name and profile, preloaded or not, on a card elsewhere; give what is found, and where."""
    card = replace(CELLAR, vram_bytes=vram_mib * MIB, reserve_bytes=0)
    placed = []
    for name, profile, preload in instances:
        model = a_model(name, weights=some_weights(header=a_7b_header()))
        instance = an_instance(model, a_profile(profile, card), serving=a_serving(context_tokens=512, preload=preload))
        loads = tuple(replace(load, capacity_bytes=vram_mib * MIB if load.card else None) for load in loads_of_one())
        placement, _ = place(replace(instance, profile=a_profile(profile, CELLAR)))
        assert placement is not None
        placed.append((instance, replace(placement, loads=loads)))
    return [(problem.code, problem.address) for problem in crowded_cards(placed)]


def loads_of_one() -> tuple[DeviceLoad, ...]:
    model = a_model("a", weights=some_weights(header=a_7b_header()))
    placement, _ = place(an_instance(model, a_profile("max", CELLAR), serving=a_serving(context_tokens=512)))
    assert placement is not None
    return placement.loads


def test_servers_that_wait_take_their_part_of_a_card() -> None:
    one_mib = math.ceil(loads_of_one()[0].total_bytes / MIB)

    assert crowded(("a", "max", True), vram_mib=one_mib) == []
    assert crowded(("a", "max", True), ("a", "mid", True), vram_mib=one_mib + 300) == []
    both = [("KI437", "profiles.max"), ("KI437", "profiles.mid")]
    assert crowded(("a", "max", True), ("a", "mid", True), vram_mib=one_mib + 299) == both
    assert crowded(("a", "max", False), ("b", "max", False), vram_mib=one_mib + 300) == []
    assert crowded(("a", "max", False), ("b", "max", False), vram_mib=one_mib) == both[:1]
    assert crowded(("a", "max", True), ("b", "max", True), vram_mib=2 * one_mib) == both[:1]
    assert crowded(("a", "max", True), ("b", "max", True), vram_mib=one_mib) == [], "which another check says"
