"""Which card gets which layers, and what is said when they do not fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from math import inf, nan

import pytest

from benchmarks.placement_models import MODELS
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import Card, HostMemory, Instance, KvType, Model, PlacementMode
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.devices import Correction
from kloros_infra.placement.place import Machine, check_together, place
from kloros_infra.placement.published import derive_header
from tests.factories import (
    GIB,
    a_card,
    a_model,
    a_profile,
    a_serving,
    an_instance,
    kloros_cards,
    some_weights,
)

MIB = 2**20


def a_published_model(architecture: str, quantization: str, *, context_tokens: int) -> Model:
    """Build a model with a derived header."""
    header = derive_header(architecture, quantization)
    assert header is not None
    weights = some_weights(header=header, origin=Origin.DERIVED)
    return a_model(architecture, weights=weights, context_tokens=context_tokens)


def a_7b(
    placement: PlacementMode = PlacementMode.AUTO, *cards: Card, shares: tuple[float, ...] | None = None
) -> Instance:
    """Build a Qwen2.5 7B Q4_0 at 16k tokens under a profile of these cards."""
    model = a_published_model("qwen2.5-7b", "Q4_0", context_tokens=16384)
    serving = a_serving(context_tokens=16384, placement=placement)
    return an_instance(model, a_profile("max", *(cards or kloros_cards())), serving=serving, gpu_percentages=shares)


def a_32b(placement: PlacementMode = PlacementMode.AUTO, *cards: Card) -> Instance:
    """Build a Qwen2.5 32B Q5_K_M at 16k tokens."""
    model = a_published_model("qwen2.5-32b", "Q5_K_M", context_tokens=16384)
    serving = a_serving(context_tokens=16384, placement=placement)
    return an_instance(model, a_profile("max", *(cards or kloros_cards())), serving=serving)


def placed(instance: Instance) -> Placement:
    """Place what is known to fit."""
    placement, problems = place(instance)
    assert problems == ()
    assert placement is not None
    return placement


def refused(instance: Instance) -> Diagnostic:
    """Place what is known not to fit, and give the one problem."""
    placement, problems = place(instance)
    assert placement is None
    (problem,) = problems
    return problem


def layers(placement: Placement) -> dict[str, int]:
    """Count the repeating layers on each device."""
    return {load.device: load.layers for load in placement.loads}


def test_without_cards_everything_is_on_the_cpu() -> None:
    placement = placed(an_instance())

    assert placement.engine == "cpu"
    assert placement.is_cpu_only
    assert placement.layer_devices == ("CPU",) * 3
    (load,) = placement.loads
    assert load.weights_bytes == an_instance().model.weights.header.weights_bytes
    assert (load.card, load.capacity_bytes, load.layers) == (None, None, 2)


@pytest.mark.parametrize("mode", PlacementMode)
def test_without_cards_the_mode_does_not_matter(mode: PlacementMode) -> None:
    assert placed(an_instance(serving=a_serving(placement=mode), gpu_percentages=())).engine == "cpu"


def test_auto_takes_the_fastest_card_that_holds_the_whole_model() -> None:
    placement = placed(a_7b())

    assert placement.engine == "solver"
    assert layers(placement) == {"CUDA0": 28, "CPU": 0}
    assert placement.layer_devices == ("CUDA0",) * 29


def test_auto_passes_over_a_fast_card_that_is_too_small() -> None:
    small, _, pascal = kloros_cards()
    placement = placed(a_7b(PlacementMode.AUTO, replace(small, vram_bytes=GIB // 2), a_card(), pascal))

    # It is told nothing of the first card; the others share prompts.
    assert [load.device for load in placement.loads] == ["CUDA1", "CUDA2", "CPU"]


def test_auto_foresees_how_fast_a_placement_is() -> None:
    predicted = placed(a_7b()).predicted

    assert predicted is not None
    assert (round(predicted.decode_tokens_per_s), round(predicted.prefill_tokens_per_s)) == (155, 7145)
    assert (predicted.splits, predicted.bottleneck, predicted.depth_tokens, predicted.gap) == (2, "CUDA0", 8192, 0)


def test_what_was_measured_changes_the_choice() -> None:
    slow = Machine(corrections={"rtx5080": Correction(decode=0.1, prefill=0.1)})

    placement, _ = place(a_7b(), slow)

    assert placement is not None
    assert "CUDA0" not in {load.device for load in placement.loads}


def test_equally_fast_cards_are_taken_in_the_profile_s_order() -> None:
    placement = placed(a_7b(PlacementMode.AUTO, a_card("b"), a_card("a")))

    assert placement.loads[0].card == "b"


def test_auto_divides_what_no_card_holds() -> None:
    placement = placed(a_32b())

    assert placement.engine == "solver"
    assert placement.fits
    assert sum(layers(placement).values()) == 64
    # In runs, in the order in which llama-server is told of the cards.
    order = [load.device for load in placement.loads[:-1]]
    assert sorted(order) == ["CUDA0", "CUDA1", "CUDA2"]
    assert [device for device, _ in groupby(placement.layer_devices)] == order


def test_auto_ignores_percentages() -> None:
    assert placed(a_7b(shares=(0, 0, 100))) == placed(a_7b())


def test_a_layer_is_moved_where_division_by_memory_leaves_one_card_too_full() -> None:
    # The head of the last card makes it too full by its share alone.
    cards = (
        a_card("big", vram_bytes=18 * GIB, reserve_bytes=0, bandwidth_bytes_per_s=1),
        a_card("little", vram_bytes=9 * GIB, reserve_bytes=0),
    )
    tight = a_32b(PlacementMode.AUTO, *cards)
    assert place(replace(tight, serving=replace(tight.serving, placement=PlacementMode.MANUAL)))[0] is None

    assert placed(tight).fits


def test_share_follows_the_percentages() -> None:
    placement = placed(a_7b(PlacementMode.MANUAL, shares=(80, 15, 5)))

    assert placement.engine == "share"
    # 23, 4 and 2 of 29, where the last of the last card is the head.
    assert layers(placement) == {"CUDA0": 23, "CUDA1": 4, "CUDA2": 1, "CPU": 0}


def test_a_card_without_a_share_is_not_used() -> None:
    placement = placed(a_7b(PlacementMode.MANUAL, shares=(0, 50, 50)))

    assert layers(placement) == {"CUDA1": 15, "CUDA2": 13, "CPU": 0}


def test_share_without_percentages_is_by_memory() -> None:
    assert layers(placed(a_7b(PlacementMode.MANUAL))) == {"CUDA0": 12, "CUDA1": 9, "CUDA2": 7, "CPU": 0}


def test_solver_is_our_own_placing() -> None:
    assert placed(a_7b(PlacementMode.SOLVER)) == placed(a_7b())


def test_the_external_overrider_is_followed_only_where_it_was_asked() -> None:
    problem = refused(a_7b(PlacementMode.OVERRIDER))

    assert problem.code == "KI403"
    assert problem.address == "models.qwen2.5-7b.profiles.max"


def test_layers_go_where_they_are_written_and_the_first_ones_stay_with_the_cpu() -> None:
    instance = replace(a_7b(PlacementMode.MANUAL), layers=(10, 0, 5))

    placement = placed(instance)

    assert placement.engine == "layers"
    assert placement.layer_devices == ("CPU",) * 14 + ("CUDA0",) * 10 + ("CUDA2",) * 5
    # The last of them is the head.
    assert layers(placement) == {"CUDA0": 10, "CUDA2": 4, "CPU": 14}
    assert [load.kv_bytes for load in placement.loads] == [10 * 32 * MIB, 4 * 32 * MIB, 14 * 32 * MIB]


def test_layers_outrank_percentages_and_none_at_all_is_the_cpu() -> None:
    instance = replace(a_7b(PlacementMode.MANUAL, shares=(100, 0, 0)), layers=(0, 0, 0))

    placement = placed(instance)

    assert (placement.engine, placement.is_cpu_only) == ("cpu", True)


def test_a_model_has_only_so_many_layers() -> None:
    instance = replace(a_7b(PlacementMode.MANUAL), layers=(20, 5, 5))

    problem = refused(instance)

    assert problem.code == "KI404"
    assert "gives 30 layers" in problem.detail
    assert "qwen2.5-7b has 29" in problem.detail


def test_auto_ignores_layers() -> None:
    assert placed(replace(a_7b(), layers=(1, 1, 1))) == placed(a_7b())


def test_the_first_card_keeps_room_for_a_matrix_of_the_cpu_s_layers() -> None:
    """Long prompts of those layers are multiplied on it; and there is no pipeline, as not all layers are on cards."""
    whole = placed(replace(a_7b(PlacementMode.MANUAL), layers=(29, 0, 0)))
    partial = placed(replace(a_7b(PlacementMode.MANUAL), layers=(23, 5, 0)))
    pipelined = placed(replace(a_7b(PlacementMode.MANUAL), layers=(24, 5, 0)))
    widest = max(group.size_bytes for group in a_7b().model.weights.header.tensors if group.layers)

    assert partial.loads[0].compute_bytes > widest
    assert partial.loads[0].compute_bytes > whole.loads[0].compute_bytes
    assert partial.loads[1].compute_bytes < pipelined.loads[1].compute_bytes


def test_fit_is_left_to_llama_server_and_never_refused() -> None:
    placement = placed(a_32b(PlacementMode.FIT, a_card()))

    assert placement.engine == "fit"
    assert not placement.fits


def test_keys_and_values_are_where_the_layers_are() -> None:
    placement = placed(a_7b(PlacementMode.MANUAL, shares=(80, 15, 5)))

    assert [load.kv_bytes for load in placement.loads] == [23 * 32 * MIB, 4 * 32 * MIB, 1 * 32 * MIB, 0]


@pytest.mark.parametrize("mode", [PlacementMode.AUTO, PlacementMode.MANUAL])
def test_what_does_not_fit_names_the_card_and_the_figures(mode: PlacementMode) -> None:
    problem = refused(a_32b(mode, a_card()))

    assert problem.code == "KI401"
    assert "llama@qwen2.5-32b-max.service needs" in problem.detail
    assert "on rtx3060 and has 11776 MiB there" in problem.detail
    assert "1 x 16384 tokens" in problem.detail
    assert problem.address == "models.qwen2.5-32b.profiles.max"


def test_the_busiest_card_is_named() -> None:
    problem = refused(
        a_7b(PlacementMode.MANUAL, *kloros_cards()[:2], a_card("tiny", vram_bytes=GIB), shares=(10, 10, 80))
    )

    assert "on tiny and has 512 MiB there" in problem.detail


def test_cards_that_are_all_reserved_hold_nothing() -> None:
    full = [a_card(name, vram_bytes=GIB, reserve_bytes=GIB) for name in ("a", "b")]

    assert refused(a_7b(PlacementMode.AUTO, *full)).code == "KI401"


def test_layers_stay_with_the_cpu_where_the_host_has_memory_for_them() -> None:
    instance = a_32b(PlacementMode.AUTO, a_card())

    placement, (problem,) = place(instance, Machine(HostMemory(usable_bytes=32 * GIB)))

    assert placement is not None
    assert placement.fits
    assert placement.layer_devices.count("CPU") > 20
    assert (problem.code, problem.severity) == ("KI411", Severity.WARNING)
    assert "in host memory: the cards have no room for them (rtx3060 11776 MiB)" in problem.detail
    assert problem.address == "models.qwen2.5-32b.profiles.max"


def test_types_of_keys_and_values_that_were_not_asked_for_first_are_told() -> None:
    asked = a_7b(PlacementMode.AUTO, a_card(vram_bytes=6 * GIB))
    serving = replace(asked.serving, context_tokens=32768, cache_type_choices=(KvType.Q8_0,))

    placement, problems = place(replace(asked, serving=serving), Machine(HostMemory(usable_bytes=32 * GIB)))

    assert placement is not None
    assert placement.cache_type_k is KvType.Q8_0
    assert "KI415" in {problem.code for problem in problems}


def test_a_card_without_room_leaves_all_layers_with_the_cpu() -> None:
    full = a_card(vram_bytes=GIB, reserve_bytes=GIB)

    placement, (problem,) = place(a_7b(PlacementMode.AUTO, full), Machine(HostMemory(usable_bytes=32 * GIB)))

    assert placement is not None
    assert placement.is_cpu_only
    assert "none of them can hold a layer" in problem.detail


def test_what_neither_cards_nor_host_can_hold_fits_nowhere() -> None:
    placement, (problem,) = place(a_32b(PlacementMode.AUTO, a_card()), Machine(HostMemory(usable_bytes=4 * GIB)))

    assert placement is None
    assert problem.code == "KI413"
    assert "between rtx3060 11776 MiB, host 4096 MiB" in problem.detail


def test_a_host_without_room_for_the_token_embedding_is_named() -> None:
    placement, (problem,) = place(a_7b(PlacementMode.AUTO, a_card()), Machine(HostMemory(usable_bytes=GIB // 10)))

    assert placement is None
    assert problem.code == "KI401"
    assert "on the host and has 103 MiB there" in problem.detail


def test_a_context_that_was_lowered_is_told() -> None:
    instance = a_7b(PlacementMode.AUTO, a_card(vram_bytes=6 * GIB))
    serving = replace(instance.serving, context_tokens=131072, min_context_tokens=4096)

    placement, (problem,) = place(replace(instance, serving=serving))

    assert placement is not None
    assert 4096 <= placement.context_tokens < 131072
    assert (problem.code, problem.severity) == ("KI412", Severity.WARNING)
    assert f"gets {placement.context_tokens} tokens of context instead of 131072" in problem.detail


@pytest.mark.parametrize("correction", [Correction(decode=nan), Correction(prefill=0), Correction(link=inf)])
def test_figures_that_cannot_be_are_told(correction: Correction) -> None:
    placement, (problem,) = place(a_7b(PlacementMode.AUTO, a_card()), Machine(corrections={"rtx3060": correction}))

    assert placement is None
    assert problem.code == "KI414"
    assert problem.detail.startswith("rtx3060 would read")


def test_experts_that_find_no_room_stay_in_host_memory() -> None:
    weights = some_weights(header=MODELS["gpt-oss-120b MXFP4"]())
    serving = a_serving(context_tokens=16384)
    instance = an_instance(a_model(weights=weights), a_profile("max", *kloros_cards()), serving=serving)

    placement, problems = place(instance, Machine(HostMemory(usable_bytes=64 * GIB)))

    assert problems == ()
    assert placement is not None
    assert placement.fits
    assert placement.exceptions[-1].device == "CPU"
    assert placement.micro_batch > 512
    assert place(instance)[1][0].code == "KI401"


def test_models_that_fit_alone_may_not_fit_together() -> None:
    first = a_7b()
    first = replace(first, serving=replace(first.serving, context_tokens=32768))
    second = an_instance(a_model("other"), a_profile("max", *kloros_cards()))
    third = replace(first, id=replace(first.id, model="third"))
    fourth = replace(first, id=replace(first.id, model="fourth"))
    instances = (first, second, third, fourth)

    (problem,) = check_together({instance.id: placed(instance) for instance in instances})

    assert problem.code == "KI402"
    assert "Under profile max, rtx5080 has 15872 MiB" in problem.detail
    rows = [line.split()[0] for line in problem.detail.splitlines()[1:]]
    assert rows == [f"llama@{model}-max.service" for model in ("fourth", "other", "qwen2.5-7b", "third")]
    assert problem.address == "profiles.max"


def test_models_that_fit_together_are_no_problem() -> None:
    first = a_7b()
    second = replace(first, id=replace(first.id, model="second"))

    assert check_together({instance.id: placed(instance) for instance in (first, second)}) == ()
    assert check_together({}) == ()


def test_models_on_the_cpu_or_by_fit_are_not_counted() -> None:
    by_fit = a_32b(PlacementMode.FIT)
    again = replace(by_fit, id=replace(by_fit.id, model="again"))

    assert check_together({instance.id: placed(instance) for instance in (by_fit, again, an_instance())}) == ()
