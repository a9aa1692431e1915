"""What is loaded beside a model: a draft model and a projector."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.ir.catalog import Card, Instance, KvType, PlacementMode
from kloros_infra.ir.gguf import TensorGroup
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.place import place
from kloros_infra.placement.published import derive_header
from tests.factories import (
    GIB,
    a_card,
    a_draft,
    a_gguf_header,
    a_model,
    a_profile,
    a_serving,
    an_instance,
    kloros_cards,
    some_weights,
)

MIB = 2**20


def derived(key: str, architecture: str, quantization: str) -> LockedWeights:
    """Build weights with the header of a published model."""
    header = derive_header(architecture, quantization)
    assert header is not None
    return some_weights(key, header=header)


def a_7b(layers: tuple[int, ...] | None = None, cards: tuple[Card, ...] | None = None) -> Instance:
    """Build a Qwen2.5 7B Q4_0 at 16k tokens on cards; by layers where they are given."""
    mode = PlacementMode.AUTO if layers is None else PlacementMode.MANUAL
    return an_instance(
        a_model("qwen2.5-7b", weights=derived("qwen2.5-7b@1", "qwen2.5-7b", "Q4_0")),
        a_profile("max", *(kloros_cards() if cards is None else cards)),
        serving=a_serving(context_tokens=16384, placement=mode),
        layers=layers,
    )


def with_draft(instance: Instance) -> Instance:
    """Give it a 0.5B to propose tokens."""
    draft = a_draft("tiny", weights=derived("tiny@1", "qwen2.5-0.5b", "Q8_0"))
    return replace(instance, model=replace(instance.model, draft=draft))


def placed(instance: Instance) -> Placement:
    """Place what is known to fit."""
    placement, problems = place(instance)
    assert problems == ()
    assert placement is not None
    return placement


def test_a_draft_model_is_where_the_head_is() -> None:
    alone = placed(a_7b(layers=(24, 5, 0)))
    both = placed(with_draft(a_7b(layers=(24, 5, 0))))

    # 362 MiB of layers, 138 of embedding as the head, 192 of keys and values, 50 of compute.
    assert both.head_device == "CUDA1"
    assert [load.extra_bytes // MIB for load in both.loads] == [0, 742, 157]
    assert [one.total_bytes - two.total_bytes for one, two in zip(both.loads, alone.loads, strict=True)] == [
        load.extra_bytes for load in both.loads
    ]


def test_without_cards_a_draft_model_is_with_the_cpu() -> None:
    (load,) = placed(with_draft(a_7b(cards=()))).loads

    assert load.extra_bytes // MIB == 742


def test_a_draft_model_s_cache_stays_in_f16() -> None:
    instance = with_draft(a_7b())
    quantized = replace(instance.serving, cache_type_k=KvType.Q8_0, cache_type_v=KvType.Q8_0)

    one, two = placed(instance), placed(replace(instance, serving=quantized))

    assert one.loads[0].extra_bytes == two.loads[0].extra_bytes
    assert one.loads[0].kv_bytes > two.loads[0].kv_bytes


def a_projector(*tensors: TensorGroup) -> LockedWeights:
    """Build a vision model's second file; 100 MB of it."""
    header = replace(a_gguf_header(layers=0), architecture="clip", layer_count=0, tensors=tensors)
    return some_weights("seeing@1+mmproj", header=header)


def test_a_projector_is_where_the_head_is() -> None:
    feed_forward = TensorGroup("v.blk.0.ffn_up.weight", "F16", (1152, 4304), 100 * MIB)
    positions = TensorGroup("v.position_embd.weight", "F32", (1152, 1024), 50 * MIB)
    bias = TensorGroup("v.blk.0.ffn_up.bias", "F32", (9999,), 0)
    instance = a_7b()

    def extra(*tensors: TensorGroup) -> int:
        seeing = replace(instance, model=replace(instance.model, projector=a_projector(*tensors)))
        return placed(seeing).loads[0].extra_bytes

    assert extra(feed_forward, positions, bias) == 150 * MIB + 4 * 1024 * 3 * 4304
    assert extra(feed_forward, bias) == 100 * MIB + 4 * 4096 * 3 * 4304


def test_what_does_not_fit_tells_of_the_draft_model() -> None:
    placement, (problem,) = place(with_draft(a_7b(cards=(a_card(vram_bytes=6 * GIB),))))

    assert placement is None
    assert problem.code == "KI401"
    assert ", draft model and projector 743 MiB)." in problem.detail
