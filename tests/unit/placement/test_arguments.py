"""What llama.cpp makes of the settings is what was placed."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import PlacementMode
from kloros_infra.ir.placement import CPU, Placement, TensorException
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.place import place
from tests.factories import a_card, a_gguf_header, a_model, a_profile, a_serving, an_instance, some_weights


def a_placement(
    layers: int = 4,
    cards: int = 2,
    *,
    mode: PlacementMode = PlacementMode.MANUAL,
    shares: tuple[float, ...] | None = None,
    written: tuple[int, ...] | None = None,
    parallel: int = 1,
) -> Placement:
    """Place a small model on cards of the same size."""
    model = a_model(weights=some_weights(header=a_gguf_header(layers=layers)))
    serving = a_serving(context_tokens=1024, parallel=parallel, placement=mode)
    profile = a_profile("max", *(a_card(f"card{index}") for index in range(cards)))
    placement, problems = place(an_instance(model, profile, serving=serving, gpu_percentages=shares, layers=written))
    assert problems == ()
    assert placement is not None
    return placement


def devices_of_llama_cpp(settings: dict[str, str], layers: int) -> list[str]:
    """Follow llama.cpp's load_tensors: which device each layer and the head get, in its own single precision."""
    gpu_layers = int(settings["LLAMA_ARG_N_GPU_LAYERS"])
    devices = settings["LLAMA_ARG_DEVICE"].split(",")
    if devices == ["none"]:
        return [CPU] * (layers + 1)
    split = [np.float32(share) for share in settings.get("LLAMA_ARG_TENSOR_SPLIT", "1").split(",")]
    ends = [np.float32(end) / np.float32(sum(split)) for end in np.cumsum(split, dtype=np.float32)]
    first = max(layers + 1 - gpu_layers, 0)
    active = min(gpu_layers, layers + 1)
    return [
        CPU if layer < first else devices[bisect.bisect_right(ends, np.float32(layer - first) / np.float32(active))]
        for layer in range(layers + 1)
    ]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), st.integers(0, 40))
def test_llama_cpp_leaves_the_first_layers_with_the_cpu(counts: list[int], on_cpu: int) -> None:
    layers = max(sum(counts) + on_cpu - 1, 1)
    placement = a_placement(layers, len(counts), written=tuple(counts))

    assert devices_of_llama_cpp(dict(arguments(placement)), layers) == list(placement.layer_devices)


@given(st.integers(1, 130), st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any))
def test_llama_cpp_puts_every_layer_where_it_was_placed(layers: int, shares: list[int]) -> None:
    placement = a_placement(layers, len(shares), shares=tuple(float(share) for share in shares))

    assert devices_of_llama_cpp(dict(arguments(placement)), layers) == list(placement.layer_devices)


def test_the_cpu_is_a_placement_too() -> None:
    settings = arguments(a_placement(cards=0))

    assert settings == (
        ("LLAMA_ARG_CACHE_TYPE_K", "f16"),
        ("LLAMA_ARG_CACHE_TYPE_V", "f16"),
        ("LLAMA_ARG_CTX_SIZE", "1024"),
        ("LLAMA_ARG_DEVICE", "none"),
        ("LLAMA_ARG_FIT", "off"),
        ("LLAMA_ARG_FLASH_ATTN", "on"),
        ("LLAMA_ARG_KV_UNIFIED", "0"),
        ("LLAMA_ARG_N_GPU_LAYERS", "0"),
        ("LLAMA_ARG_N_PARALLEL", "1"),
        ("LLAMA_ARG_SPLIT_MODE", "none"),
        ("LLAMA_ARG_UBATCH", "512"),
    )
    assert devices_of_llama_cpp(dict(settings), 4) == [CPU] * 5


def test_several_cards_get_whole_layers() -> None:
    settings = dict(arguments(a_placement(4, 3, shares=(60, 40, 0))))

    assert settings["LLAMA_ARG_DEVICE"] == "CUDA0,CUDA1"
    assert settings["LLAMA_ARG_N_GPU_LAYERS"] == "5"
    assert settings["LLAMA_ARG_SPLIT_MODE"] == "layer"
    assert settings["LLAMA_ARG_TENSOR_SPLIT"] == "3,2"


def test_one_card_is_not_split() -> None:
    settings = dict(arguments(a_placement(mode=PlacementMode.AUTO)))

    assert settings["LLAMA_ARG_DEVICE"] == "CUDA0"
    assert settings["LLAMA_ARG_SPLIT_MODE"] == "none"
    assert "LLAMA_ARG_TENSOR_SPLIT" not in settings


def test_fit_is_told_the_cards_and_nothing_else() -> None:
    settings = dict(arguments(a_placement(mode=PlacementMode.FIT)))

    assert settings["LLAMA_ARG_DEVICE"] == "CUDA0,CUDA1"
    assert settings["LLAMA_ARG_FIT"] == "on"
    assert {"LLAMA_ARG_N_GPU_LAYERS", "LLAMA_ARG_TENSOR_SPLIT"}.isdisjoint(settings)


def test_each_slot_has_the_whole_context() -> None:
    settings = dict(arguments(a_placement(parallel=3)))

    assert settings["LLAMA_ARG_CTX_SIZE"] == "3072"
    assert settings["LLAMA_ARG_N_PARALLEL"] == "3"


def test_a_large_micro_batch_needs_a_batch_as_large() -> None:
    placement = replace(a_placement(), micro_batch=8192)

    assert Counter({"LLAMA_ARG_BATCH": "8192", "LLAMA_ARG_UBATCH": "8192"}.items()) <= Counter(arguments(placement))
    assert "LLAMA_ARG_BATCH" not in dict(arguments(a_placement()))


def test_exceptions_are_one_list() -> None:
    exceptions = (TensorException("^blk[.]1[.]ffn", "CUDA1"), TensorException("^output[.]weight$", CPU))

    settings = dict(arguments(replace(a_placement(), exceptions=exceptions)))

    assert settings["LLAMA_ARG_OVERRIDE_TENSOR"] == "^blk[.]1[.]ffn=CUDA1,^output[.]weight$=CPU"
