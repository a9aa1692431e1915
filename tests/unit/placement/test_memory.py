"""Bytes per device: exact for weights, llama.cpp's rules for keys, values and states, its own figures for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.catalog import KvType, ModelKind
from kloros_infra.ir.gguf import GgufHeader, LatentAttention, Recurrence, Tensor, TensorGroup, group_tensors
from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.memory import (
    Role,
    TensorPlaces,
    Workload,
    compute_bytes,
    kv_by_layer,
    lent_weights_bytes,
    model_loads,
    roles,
    slides,
    weights_by_device,
    workload,
)
from kloros_infra.placement.memory_activations import steps_by_layer
from kloros_infra.placement.memory_state import remembering_layers, state_bytes
from kloros_infra.placement.published import derive_header
from tests.factories import a_7b_header, a_gguf_header, a_model, a_serving, a_tensor, an_instance, some_weights

MIB = 2**20
ALONE = Role(is_first=True, holds_layers=True, holds_head=True, is_pipelined=False)
EMBEDDING_BYTES = 64 * 512 // 32 * 18
MAMBA2 = Recurrence(conv_kernel=4, inner_size=128, state_size=16, group_count=1, time_step_rank=8)


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


def with_rows(header: GgufHeader, *rows: Tensor, without: str = "nothing") -> GgufHeader:
    """Add tensors to a header, and take away those whose name contains a word."""
    kept = tuple(group for group in header.tensors if without not in group.name)
    return replace(header, tensors=(*kept, *group_tensors(rows)))


def with_experts(*, used: int = 2, inner: int = 32, layers: int = 2) -> GgufHeader:
    """Build a header whose layers have 8 experts in place of a feed-forward part."""
    rows = [
        a_tensor(f"blk.{layer}.ffn_{name}_exps.weight", *shape, 8)
        for layer in range(layers)
        for name, shape in (("gate", (64, inner)), ("up", (64, inner)), ("down", (inner, 64)))
    ]
    header = with_rows(a_gguf_header(layers=layers), *rows, without=".ffn_")
    return replace(header, architecture="qwen3moe", expert_count=8, expert_used_count=used)


def values_of(header: GgufHeader, work: Workload, role: Role) -> float:
    """Give a compute buffer in values for each token, masks left out."""
    mask = 2 * work.micro_batch * -(-work.context_tokens // 256) * 256
    return (compute_bytes(header, work, role) - mask) / (4 * work.micro_batch)


def test_layers_go_to_their_devices_and_the_rest_to_the_head_s() -> None:
    header = a_gguf_header(layers=2)

    found = weights_by_device(header, ("CUDA0", "CUDA1", "CUDA1"))

    layer = sum(group.size_bytes for group in header.tensors if group.layers == (0, 1))
    assert found == {"CPU": EMBEDDING_BYTES, "CUDA0": layer, "CUDA1": layer + EMBEDDING_BYTES + 64 * 4}
    assert sum(found.values()) == header.weights_bytes


def test_tensors_without_a_layer_may_belong_to_the_first() -> None:
    header = with_rows(a_gguf_header(), a_tensor("rope_freqs.weight", 32, type="F32"))

    found = weights_by_device(header, ("CUDA0", "CUDA1", "CUDA1"))

    assert found["CUDA0"] == weights_by_device(a_gguf_header(), ("CUDA0", "CUDA1", "CUDA1"))["CUDA0"] + 32 * 4


def test_a_tied_head_is_a_copy_of_the_embedding() -> None:
    header = a_gguf_header(layers=1, has_tied_embeddings=True)

    assert weights_by_device(header, ("CUDA0", "CUDA0"))["CPU"] == EMBEDDING_BYTES
    assert sum(weights_by_device(header, ("CUDA0", "CUDA0")).values()) == header.weights_bytes + EMBEDDING_BYTES
    assert weights_by_device(header, ("CPU", "CPU")) == {"CPU": header.weights_bytes}


def test_an_exception_for_the_embedding_takes_the_tied_head_along() -> None:
    header = a_gguf_header(layers=1, has_tied_embeddings=True)

    found = weights_by_device(header, ("CUDA0", "CUDA0"), [TensorException("^token_embd[.]weight", CPU)])

    assert found["CPU"] == 2 * EMBEDDING_BYTES


def test_the_first_exception_that_fits_decides() -> None:
    header = with_experts()
    rules = (TensorException("^blk[.]0[.].*_exps[.]", "CPU"), TensorException("_exps[.]", "CUDA1"))
    experts = 3 * 64 * 32 * 8 // 32 * 18

    found = weights_by_device(header, ("CUDA0", "CUDA0", "CUDA0"), rules)

    assert (found["CPU"], found["CUDA1"]) == (EMBEDDING_BYTES + experts, experts)
    assert sum(found.values()) == header.weights_bytes


@given(st.lists(st.sampled_from(["CPU", "CUDA0", "CUDA1"]), min_size=4, max_size=4), st.booleans())
def test_no_weight_is_lost_or_counted_twice(devices: list[str], has_exception: bool) -> None:
    header = with_experts(layers=3)
    rules = [TensorException("up_exps", "CPU")] if has_exception else []

    assert sum(weights_by_device(header, devices, rules).values()) == header.weights_bytes


def test_an_encoder_has_no_head() -> None:
    header = a_nomic()

    found = weights_by_device(header, ("CUDA0",) * 13)

    assert sum(found.values()) == header.weights_bytes
    # The norm of the embedding is computed with the first layer.
    assert found["CPU"] == 768 * 30522 * 2 + 768 * 2 * 4


@pytest.mark.parametrize(("architecture", "is_loaded"), [("glm4moe", False), ("qwen35", True)])
def test_blocks_that_propose_tokens_may_stay_in_the_file(architecture: str, is_loaded: bool) -> None:
    header = replace(a_gguf_header(layers=2), architecture=architecture, proposing_layers=1)

    found = weights_by_device(header, ("CUDA0", "CUDA1", "CUDA0"))

    assert ("CUDA1" in found) == is_loaded


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


def test_slots_may_share_one_cache() -> None:
    """A unified cache has the whole context once, and room for the window of each slot (llama-kv-cache-iswa.cpp)."""
    shared = Workload(8192, 4, micro_batch=512, is_unified=True)

    assert sum(kv_by_layer(a_gemma(), shared)) == (3 * 8192 + 15 * (4 * 512 + 512)) * 1024


def test_the_last_layer_of_each_period_sees_everything() -> None:
    assert [layer for layer in range(18) if not slides(a_gemma(), layer)] == [5, 11, 17]
    assert not slides(replace(a_gemma(), sliding_window=0), 0)
    assert not slides(replace(a_gemma(), sliding_window_pattern=0), 0)
    assert not slides(replace(a_gemma(), proposing_layers=2), 16)


def test_layers_with_a_window_may_be_named_and_have_heads_of_their_own() -> None:
    header = replace(
        a_gguf_header(layers=3),
        sliding_window=256,
        sliding_layers=(0, 2),
        sliding_key_length=8,
        sliding_value_length=4,
    )

    assert [slides(header, layer) for layer in range(3)] == [True, False, True]
    assert kv_by_layer(header, Workload(4096, 1, 256)) == (512 * 2 * 24, 4096 * 2 * 64, 512 * 2 * 24)


def test_layers_may_differ_in_their_heads() -> None:
    header = replace(a_gguf_header(layers=2), head_count_kv=(0, 2))

    assert kv_by_layer(header, Workload(256, 1, 512)) == (0, 256 * 2 * 2 * 16 * 2)


def test_the_last_layers_may_borrow_the_keys_of_earlier_ones() -> None:
    header = replace(a_gguf_header(layers=3), borrowing_layers=1)

    assert [size > 0 for size in kv_by_layer(header, Workload(256, 1, 512))] == [True, True, False]


@pytest.mark.parametrize(("architecture", "has_keys"), [("glm4moe", True), ("step35", False)])
def test_blocks_that_propose_tokens_may_have_keys(architecture: str, has_keys: bool) -> None:
    header = replace(a_gguf_header(layers=2), architecture=architecture, proposing_layers=1)

    assert (kv_by_layer(header, Workload(256, 1, 512))[1] > 0) == has_keys


def test_compressed_keys_hold_the_values_too() -> None:
    """DeepSeek: 576 values a token, in 2 bytes or 34 for 32 of them."""
    latent = LatentAttention(rank=512, rope_length=64, key_length=192, value_length=128)
    header = replace(a_gguf_header(layers=1, kv_heads=1), latent=latent, key_length=576, value_length=512)

    assert kv_by_layer(header, Workload(256, 1, 512)) == (256 * 576 * 2,)
    assert kv_by_layer(header, Workload(256, 1, 512, KvType.Q8_0, KvType.Q8_0)) == (256 * 576 // 32 * 34,)


@pytest.mark.parametrize(
    ("recurrence", "expected"),
    [
        (MAMBA2, 4 * (3 * (128 + 2 * 16) + 16 * 128)),
        (Recurrence(wkv_head_size=8, token_shift_count=2), 4 * (2 * 64 + 8 * 64)),
        (Recurrence(short_conv_cache=3), 4 * 2 * 64),
        (Recurrence(kda_head_length=16, conv_kernel=4), 4 * (3 * 3 * 4 * 16 + 16 * 16 * 4)),
        (Recurrence(kda_head_length=16), 4 * (3 * 3 * 4 * 16 + 16 * 16 * 4)),
        (Recurrence(inner_size=8, state_size=2), 4 * 16),
        (None, 0),
    ],
)
def test_what_a_layer_remembers(recurrence: Recurrence | None, expected: int) -> None:
    assert state_bytes(replace(a_gguf_header(), recurrence=recurrence)) == expected


def test_a_mamba_remembers_in_every_layer_and_for_every_slot() -> None:
    header = replace(a_gguf_header(layers=2), architecture="mamba2", recurrence=MAMBA2, head_count_kv=(0, 0))

    assert kv_by_layer(header, Workload(4096, 3, 512)) == (3 * state_bytes(header),) * 2


@pytest.mark.parametrize("has_keys", [True, False])
def test_layers_of_a_hybrid_remember_or_look_back_or_do_both(has_keys: bool) -> None:
    memory = a_tensor("blk.0.ssm_out.weight", 128, 64)
    header = replace(
        with_rows(a_gguf_header(layers=1), memory, without="nothing" if has_keys else ".attn_k."),
        architecture="falcon-h1",
        recurrence=MAMBA2,
    )

    (found,) = kv_by_layer(header, Workload(256, 1, 512))

    assert remembering_layers(header) == {0}
    assert found == state_bytes(header) + (256 * 2 * 2 * 16 * 2 if has_keys else 0)


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

    found = workload(an_instance(model))

    assert found.micro_batch == micro_batch
    assert found.gives_embeddings == (kind is not ModelKind.VISION)


@pytest.mark.parametrize(
    ("role", "values", "masks"),
    [
        (ALONE, 3 * 18944 + 3 * 3584, 1),
        (replace(ALONE, is_pipelined=True), 3 * 18944 + 3 * 3584 + 4 * 3584, 4),
        (replace(ALONE, is_pipelined=True, is_first=False), 3 * 18944 + 3 * 3584 + 8 * 3584, 4),
        (replace(ALONE, is_idle_cpu=True, core_layers=()), 2 * 3584, 1),
    ],
)
def test_compute_buffers_of_a_7b(role: Role, values: int, masks: int) -> None:
    """What llama-server b10068 reports: 148 MiB on one card, 224 and 252 in a pipeline."""
    expected = 4 * 512 * values + masks * 2 * 512 * 16384

    assert compute_bytes(a_7b_header(), Workload(16384, 1, 512), role) == expected


def test_a_card_without_a_part_takes_nothing() -> None:
    nothing = Role(is_first=False, holds_layers=False, holds_head=False, is_pipelined=False)

    assert compute_bytes(a_7b_header(), Workload(16384, 1, 512), nothing) == 0


def test_a_step_is_no_longer_than_the_context() -> None:
    assert compute_bytes(a_7b_header(), Workload(300, 1, 512), ALONE) == 300 * (4 * (3 * 18944 + 3 * 3584) + 2 * 512)


def test_a_wide_vocabulary_outgrows_the_layers() -> None:
    head = Role(is_first=False, holds_layers=False, holds_head=True, is_pipelined=False)
    of_slots = compute_bytes(a_7b_header(), Workload(512, 64, micro_batch=512), head)
    of_all = compute_bytes(a_7b_header(), Workload(512, 1, micro_batch=512, gives_embeddings=True), head)

    assert of_slots == 4 * 64 * 152064 + 2 * 4 * 512 * 3584
    # Embeddings are asked of every token, and with them come its logits.
    assert of_all == 4 * 512 * 152064 + 2 * 4 * 512 * 3584


def test_an_encoder_has_no_logits_and_looks_at_its_batch_alone() -> None:
    work = Workload(2048, 1, micro_batch=2048, gives_embeddings=True)

    assert compute_bytes(a_nomic(), work, ALONE) == 4 * 2048 * (3 * 3072 + 3 * 768) + 2 * 2048 * 2048


@pytest.mark.parametrize(
    ("used", "inner", "values"),
    [
        # The answers of all used experts are no wider than two of their steps: they take their room.
        (2, 64, 3 * 2 * 64 + 64 + 2 * 64),
        # They are wider, and two steps fit where attention's answer was.
        (1, 31, (3 - 2) * 31 + 64 + 64 + 2 * 64),
        (1, 100, 3 * 100 + 64 + 2 * 64),
    ],
)
def test_experts_count_by_how_many_are_used(used: int, inner: int, values: int) -> None:
    header = with_experts(used=used, inner=inner)

    assert max(one.experts for one in steps_by_layer(header)) == values
    assert values_of(header, Workload(256, 1, 256), ALONE) == max(values, 4 * 64)


def test_experts_may_be_shared() -> None:
    shared = [a_tensor(f"blk.0.ffn_{name}_shexp.weight", 64, 640) for name in ("gate", "up")]
    header = with_rows(with_experts(), *shared, a_tensor("blk.0.ffn_down_shexp.weight", 640, 64))

    first, second = steps_by_layer(header)

    assert first.core == 3 * 640 + 64 + 2 * 64
    assert first.lent_experts == second.lent_experts + 3 * 640


@pytest.mark.parametrize(
    ("rows", "values"),
    [
        # Both halves in one tensor (Phi 3), none (Nemotron), queries, keys and values in one (Falcon).
        ((("ffn_up", 64, 512), ("ffn_down", 256, 64)), 3 * 256 + 64 + 128),
        ((("ffn_up", 64, 256), ("ffn_down", 256, 64)), 2 * 256 + 64 + 128),
        ((("attn_qkv", 64, 1000),), 1000 + 64 + 128),
    ],
)
def test_other_shapes_of_layers(rows: tuple[tuple[str, int, int], ...], values: int) -> None:
    added = (a_tensor(f"blk.0.{name}.weight", *shape) for name, *shape in rows)
    header = with_rows(a_gguf_header(layers=1), *added, without=".ffn_")

    assert steps_by_layer(header)[0].core == values


@pytest.mark.parametrize(
    ("rows", "core", "kept", "on_cpu"),
    [
        ((("ssm_x", 128, 9), ("ssm_conv1d", 4, 128)), 25 * 128 // 4, 128, 3 * 128),
        ((("ssm_in", 64, 300), ("ssm_conv1d", 4, 160)), 300 + 320 + 128 + 128, 320, 300 + 160 + 128),
        ((("ssm_conv1d", 4, 160),), 3 * 64 + 23 * 160 // 8, 320, 160),
        ((("shortconv.in_proj", 64, 192),), 8 * 64, 0, 3 * 64),
        ((("time_mix_key", 64, 64),), 12 * 64, 0, 12 * 64),
        ((("anything", 64, 64),), 12 * 64, 0, 0),
    ],
)
def test_layers_that_remember(rows: tuple[tuple[str, int, int], ...], core: int, kept: int, on_cpu: int) -> None:
    added = [a_tensor(f"blk.0.{name}.weight", *shape, type="F32") for name, *shape in rows]
    header = replace(with_rows(a_gguf_header(layers=1), *added, without="blk."), recurrence=MAMBA2)

    (found,) = steps_by_layer(header)

    assert (found.core, found.kept, found.on_cpu) == (core, kept, on_cpu)


def test_a_memory_without_its_size_counts_by_its_tensors() -> None:
    added = a_tensor("blk.0.ssm_conv1d.weight", 4, 160, type="F32")

    assert steps_by_layer(with_rows(a_gguf_header(layers=1), added, without="blk."))[0].kept == 320


def test_queries_of_compressed_attention_stand_in_both_forms() -> None:
    latent = LatentAttention(rank=512, rope_length=64, key_length=192, value_length=128)
    header = with_rows(a_gguf_header(layers=1), a_tensor("blk.0.attn_k_b.weight", 128, 512, 4))

    assert steps_by_layer(replace(header, latent=latent))[0].core == 4 * (192 + 2 * 512 + 64) + 5 * 64


def test_kept_in_other_types_keys_and_values_are_copied_for_attention() -> None:
    work = Workload(65536, 1, 512, KvType.Q8_0, KvType.Q8_0)
    copies = 65536 * 2 * 4 * 128 * 2

    quantized = compute_bytes(a_7b_header(), work, ALONE)

    assert quantized == 2 * 512 * 65536 + 4 * 512 * (3584 + 3584 + 2 * 3584) + copies
    head = Role(is_first=False, holds_layers=False, holds_head=True, is_pipelined=False)
    assert compute_bytes(a_7b_header(), work, head) < copies


def test_the_new_states_of_a_layer_have_room() -> None:
    work = Workload(256, 2, 256)
    header = replace(a_gguf_header(layers=1), architecture="mamba2", recurrence=MAMBA2)
    rows = (a_tensor("blk.0.ssm_in.weight", 64, 300), a_tensor("blk.0.ssm_conv1d.weight", 4, 160, type="F32"))
    header = with_rows(header, *rows, without="blk.")

    # A mamba looks at nothing, so it has no masks.
    # Beside the state, what the convolution still needs is there once more.
    new = 2 * (state_bytes(header) + 4 * 3 * 160)
    assert compute_bytes(header, work, ALONE) == 4 * 256 * (300 + 320 + 128 + 128) + new
    away = compute_bytes(header, work, replace(ALONE, holds_layers=False, core_layers=()))
    assert away == 4 * 2 * 512 + 4 * 256 * 2 * 64


def test_what_a_mamba_computes_is_handed_on_too() -> None:
    work = Workload(256, 1, 256)
    rows = (a_tensor("blk.0.ssm_in.weight", 64, 300), a_tensor("blk.0.ssm_conv1d.weight", 4, 160, type="F32"))
    header = with_rows(a_gguf_header(layers=1), *rows, without="blk.")
    header = replace(header, architecture="mamba2", recurrence=MAMBA2)
    alone = compute_bytes(header, work, replace(ALONE, holds_head=False))

    def more(*, is_first: bool, is_last: bool) -> float:
        role = replace(ALONE, holds_head=False, is_pipelined=True, is_first=is_first, is_last=is_last)
        return (compute_bytes(header, work, role) - alone) / (4 * 256)

    assert more(is_first=True, is_last=False) == 4 * 64 + 4 * 128
    assert more(is_first=False, is_last=False) == 8 * 64 + 12 * 128
    assert more(is_first=False, is_last=True) == 8 * 64 + 8 * 128
    # In a delta net it is not.
    net = with_rows(header, without="ssm_in")
    in_pipeline = replace(ALONE, holds_head=False, is_pipelined=True)
    handed_on = compute_bytes(net, work, in_pipeline) - compute_bytes(net, work, replace(ALONE, holds_head=False))
    assert handed_on == 4 * 256 * 4 * 64


def test_roles_of_a_pipeline() -> None:
    found = roles(a_gguf_header(layers=3), TensorPlaces(("CUDA0", "CUDA1", "CUDA1", "CUDA2")))

    assert list(found) == ["CUDA0", "CUDA1", "CUDA2", "CPU"]
    assert [role.core_layers for role in found.values()] == [(0,), (1, 2), (), ()]
    assert [(role.is_first, role.is_last) for role in found.values()][:3] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert all(role.is_pipelined for role in found.values())
    assert [role.holds_head for role in found.values()] == [False, False, True, False]


def test_without_cards_the_cpu_does_everything() -> None:
    assert roles(a_gguf_header(), TensorPlaces((CPU,) * 3)) == {CPU: replace(ALONE, is_last=True)}


def test_the_first_card_computes_what_is_in_host_memory() -> None:
    header = with_experts(layers=3)
    rules = (TensorException("^blk[.]2[.].*_exps[.]", CPU), TensorException("^blk[.]1[.].*_exps[.]", "CUDA2"))
    places = TensorPlaces((CPU, "CUDA0", "CUDA1", "CUDA1"), rules, ("CUDA0", "CUDA1", "CUDA2"))

    found = roles(header, places)

    first = found["CUDA0"]
    assert (first.core_layers, first.guest_layers, first.lent_layers) == ((0, 1), (0,), (0, 2))
    assert first.has_lent_for_others
    assert first.lent_bytes == 64 * 32 * 8 // 32 * 18
    assert found["CUDA1"].expert_layers == ()
    assert (found["CUDA2"].core_layers, found["CUDA2"].expert_layers) == ((), (1,))
    assert not any(role.is_pipelined for role in found.values())


def test_lent_weights_stand_beside_their_step() -> None:
    header, work = with_experts(inner=512), Workload(256, 1, micro_batch=1)
    rule = (TensorException("_exps[.]", CPU),)
    alone, split = ("CUDA0",) * 3, ("CUDA0", "CUDA1", "CUDA1")
    lent = 64 * 512 * 8 // 32 * 18

    def of_first(devices: tuple[str, ...]) -> int:
        return model_loads(header, work, devices, rule)[0].compute_bytes

    assert lent_weights_bytes(header, "CUDA0", alone, rule) == lent
    assert lent_weights_bytes(header, "CUDA1", split, rule) == 0
    assert of_first(alone) == 2 * 256 + lent + 4 * 3 * 2 * 512
    # Two at a time, where experts of another card's layers come.
    assert of_first(split) == 2 * lent + 4 * 64


def test_a_card_that_only_lends_a_hand_needs_no_masks() -> None:
    header, work = with_experts(), Workload(65536, 1, 256)
    rule = (TensorException("_exps[.]", CPU),)

    loads = model_loads(header, work, ("CUDA1",) * 3, rule, devices=("CUDA0", "CUDA1"))

    assert [load.device for load in loads] == ["CUDA0", "CUDA1", "CPU"]
    assert loads[0].weights_bytes == loads[0].kv_bytes == 0
    assert 0 < loads[0].compute_bytes < 2 * 256 * 65536 < loads[1].compute_bytes


@pytest.mark.parametrize(("period", "times"), [(0, 1), (2, 1.5)])
def test_keys_and_values_of_the_cpu_s_layers_are_lent_too(period: int, times: float) -> None:
    header, work = replace(a_gguf_header(layers=3), sliding_window_pattern=period), Workload(65536, 1, 256)
    copies = 65536 * 2 * 2 * 16 * 2
    devices = (CPU, "CUDA0", "CUDA0", "CUDA0")
    attention = 4 * 256 * 4 * 64

    first = model_loads(header, work, devices)[0]

    assert first.compute_bytes == 2 * 256 * 65536 + times * copies + attention


def test_keys_and_values_lie_with_their_layers() -> None:
    loads = model_loads(a_gguf_header(layers=2), Workload(256, 1, 256), (CPU, "CUDA0", "CUDA0"))

    assert [(load.device, load.layers) for load in loads] == [("CUDA0", 1), (CPU, 1)]
    assert loads[0].kv_bytes == loads[1].kv_bytes == 256 * 2 * 2 * 16 * 2


def test_a_biased_group_is_no_matrix() -> None:
    """Only matrices are lent: a bias in host memory is read there."""
    bias = TensorGroup("blk.*.ffn_up.bias", "F32", (10**6,), 4 * 10**6, (0,))
    header = replace(a_gguf_header(), tensors=(*a_gguf_header().tensors, bias))

    assert lent_weights_bytes(header, "CUDA0", (CPU, "CUDA0", "CUDA0")) == 64 * 128 // 32 * 18
