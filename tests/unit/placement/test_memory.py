"""Bytes per device: exact for weights, llama.cpp's rules for keys and values, its own figures for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import KvType, ModelKind
from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.placement.memory import (
    Role,
    Workload,
    compute_bytes,
    kv_by_layer,
    slides,
    weights_by_device,
    workload,
)
from kloros_infra.placement.published import derive_header
from tests.factories import a_7b_header, a_gguf_header, a_model, a_serving, an_instance, some_weights

MIB = 2**20
ALONE = Role(is_first=True, holds_layers=True, holds_head=True, is_pipelined=False)


def a_gemma() -> GgufHeader:
    """Build the facts of Gemma 3 270M: one key head of 256, five of six layers with a window of 512."""
    header = a_gguf_header(layers=18, embedding=640, feed_forward=2048, kv_heads=1)
    return replace(
        header, architecture="gemma3", key_length=256, value_length=256, sliding_window=512, sliding_window_pattern=6
    )


def a_nomic() -> GgufHeader:
    """Derive the encoder of the design document."""
    header = derive_header("nomic-embed-text-v1.5", "F16")
    assert header is not None
    return header


def test_layers_go_to_their_devices_and_the_rest_to_the_head_s() -> None:
    header = a_gguf_header(layers=2)

    found = weights_by_device(header, ("CUDA0", "CUDA1", "CUDA1"))

    layer = sum(group.size_bytes for group in header.tensors if group.layers == (0, 1))
    embedding = 64 * 512 // 32 * 18
    assert found == {"CPU": embedding, "CUDA0": layer, "CUDA1": layer + embedding + 64 * 4}
    assert sum(found.values()) == header.weights_bytes


def test_a_tied_head_is_a_copy_of_the_embedding() -> None:
    header = a_gguf_header(layers=1, has_tied_embeddings=True)
    embedding = 64 * 512 // 32 * 18

    assert weights_by_device(header, ("CUDA0", "CUDA0"))["CPU"] == embedding
    assert sum(weights_by_device(header, ("CUDA0", "CUDA0")).values()) == header.weights_bytes + embedding
    assert weights_by_device(header, ("CPU", "CPU")) == {"CPU": header.weights_bytes}


def test_an_encoder_has_no_head() -> None:
    header = a_nomic()

    found = weights_by_device(header, ("CUDA0",) * 13)

    assert sum(found.values()) == header.weights_bytes
    assert found["CPU"] == 768 * 30522 * 2 + 2 * 768 * 4 + 768 * 2 * 4


@pytest.mark.parametrize(
    ("tokens", "parallel", "keys", "values", "mib"),
    [
        # 28 layers x 2 x 4 heads x 128 values x 2 bytes: 56 KiB a token.
        (16384, 1, KvType.F16, KvType.F16, 896),
        (16384, 2, KvType.F16, KvType.F16, 1792),
        (16300, 1, KvType.F16, KvType.F16, 896),
        (16384, 1, KvType.Q8_0, KvType.Q8_0, 476),
        # Keys in 34 bytes of 32 values, values in 18.
        (16384, 1, KvType.Q8_0, KvType.Q4_0, 238 + 126),
        (16384, 1, KvType.F16, KvType.Q4_0, 448 + 126),
    ],
)
def test_keys_and_values_of_a_7b(tokens: int, parallel: int, keys: KvType, values: KvType, mib: int) -> None:
    work = Workload(tokens, parallel, micro_batch=512, cache_type_k=keys, cache_type_v=values)

    assert sum(kv_by_layer(a_7b_header(), work)) == mib * MIB


@pytest.mark.parametrize(("tokens", "parallel", "mib"), [(2048, 1, 6 + 15), (4096, 2, 24 + 30), (256, 1, 4.5)])
def test_a_window_bounds_the_cache_of_the_layers_that_slide(tokens: int, parallel: int, mib: float) -> None:
    """What llama-server reports for this model: 3 layers with all cells, 15 with 1024."""
    assert sum(kv_by_layer(a_gemma(), Workload(tokens, parallel, micro_batch=512))) == mib * MIB


def test_the_last_layer_of_each_period_sees_everything() -> None:
    assert [layer for layer in range(18) if not slides(a_gemma(), layer)] == [5, 11, 17]
    assert not slides(replace(a_gemma(), sliding_window=0), 0)
    assert not slides(replace(a_gemma(), sliding_window_pattern=0), 0)


def test_layers_may_differ_in_their_heads() -> None:
    header = replace(a_gguf_header(layers=2), head_count_kv=(0, 2))

    assert kv_by_layer(header, Workload(256, 1, 512)) == (0, 256 * 2 * 2 * 16 * 2)


def test_an_encoder_keeps_nothing_and_reads_a_text_at_once() -> None:
    model = a_model(weights=some_weights(header=a_nomic()))

    work = workload(an_instance(model, serving=a_serving(context_tokens=8192, parallel=2)))

    assert work == Workload(8192, 2, micro_batch=8192)
    assert kv_by_layer(a_nomic(), work) == (0,) * 12


def test_other_models_read_by_512_tokens() -> None:
    assert workload(an_instance(a_model(context_tokens=4096))) == Workload(4096, 1, micro_batch=512)


@pytest.mark.parametrize(
    ("kind", "pooling", "micro_batch"),
    [
        (ModelKind.RERANK, "rank", 4096),
        (ModelKind.EMBEDDING, "mean", 4096),
        (ModelKind.EMBEDDING, None, 4096),
        # The last token stands for all of the text, so it may come in pieces.
        (ModelKind.EMBEDDING, "last", 512),
        (ModelKind.VISION, None, 512),
    ],
)
def test_a_text_that_is_pooled_is_read_at_once(kind: ModelKind, pooling: str | None, micro_batch: int) -> None:
    header = replace(a_gguf_header(), pooling_type=pooling)
    model = a_model(kind=kind, context_tokens=4096, weights=some_weights(header=header))

    assert workload(an_instance(model)).micro_batch == micro_batch


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (ALONE, 4 * 512 * (3 * 18944 + 2 * 3584 + 2 * 3584) + 2 * 512 * 16384),
        (replace(ALONE, is_first=False, holds_head=False), 4 * 512 * (3 * 18944 + 2 * 3584) + 2 * 512 * 16384),
        (
            replace(ALONE, is_pipelined=True, holds_head=False),
            4 * 512 * (3 * 18944 + 2 * 3584 + 14 * 3584) + 4 * 2 * 512 * 16384,
        ),
        (
            replace(ALONE, is_pipelined=True, is_first=False, holds_head=False),
            4 * 512 * (3 * 18944 + 2 * 3584 + 9 * 3584) + 4 * 2 * 512 * 16384,
        ),
        (
            Role(is_first=True, holds_layers=False, holds_head=False, is_pipelined=False),
            4 * 512 * 2 * 3584 + 2 * 512 * 16384,
        ),
    ],
)
def test_compute_buffers_of_a_7b(role: Role, expected: int) -> None:
    assert compute_bytes(a_7b_header(), Workload(16384, 1, 512), role) == expected


def test_a_wide_vocabulary_outgrows_the_layers() -> None:
    work = Workload(256, 64, micro_batch=512)
    logits = 4 * 64 * 152064
    head = Role(is_first=False, holds_layers=False, holds_head=True, is_pipelined=True)

    assert compute_bytes(a_7b_header(), work, head) == logits + 9 * 4 * 512 * 3584
    assert compute_bytes(a_7b_header(), work, replace(head, is_pipelined=False)) == logits + 4 * 512 * 3584


def test_experts_count_by_how_many_are_used() -> None:
    work = Workload(256, 1, micro_batch=512)
    mask = 2 * 512 * 256
    dense = a_gguf_header()
    mixture = replace(dense, expert_count=8, expert_used_count=2)
    down = TensorGroup("blk.*.ffn_down_exps.weight", "Q4_0", (32, 64, 8), 9216, (0, 1))
    biases = TensorGroup("blk.*.ffn_up_exps.bias", "F32", (32, 8), 1024, (0, 1))
    body = Role(is_first=False, holds_layers=True, holds_head=False, is_pipelined=False)

    def values(header: GgufHeader) -> float:
        return (compute_bytes(header, work, body) - mask) / (4 * 512)

    assert values(mixture) == 2 * 2 * 64 + 2 * 128
    assert values(replace(mixture, tensors=(*dense.tensors, down))) == 2 * 2 * 64 + 2 * 32
    assert values(replace(mixture, tensors=(*dense.tensors, down, biases))) == 2 * 2 * 64 + 2 * 32 + 2 * 64
