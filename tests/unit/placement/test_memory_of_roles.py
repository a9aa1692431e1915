"""What a compute buffer takes by what its device does: with some layers only, or with those that are the CPU's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gguf import GgufHeader, Recurrence, group_tensors
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.memory import Role, Workload, compute_bytes, lent_weights_bytes, model_loads, workload
from kloros_infra.placement.memory_activations import steps_by_layer
from kloros_infra.placement.memory_state import convolution_bytes, kv_by_layer, state_bytes
from tests.factories import a_gguf_header, a_model, a_serving, a_tensor, an_instance, some_weights

MIB = 2**20
TOKENS = 256
WIDE = 64
WORK = Workload(65536, 1, TOKENS)
WHOLE_MASK = 2 * TOKENS * 65536
VALUE = 4 * TOKENS
BETWEEN = Role(is_first=False, holds_layers=True, holds_head=False, is_pipelined=False)


def of_widths(*widths: int) -> GgufHeader:
    """Build a header whose layers' feed-forward parts are so wide."""
    header = a_gguf_header(layers=len(widths))
    rows = [
        a_tensor(f"blk.{layer}.ffn_{name}.weight", *shape)
        for layer, width in enumerate(widths)
        for name, shape in (("gate", (WIDE, width)), ("up", (WIDE, width)), ("down", (width, WIDE)))
    ]
    kept = tuple(group for group in header.tensors if ".ffn_" not in group.name)
    return replace(header, tensors=(*kept, *group_tensors(rows)))


def values_of(header: GgufHeader, role: Role) -> float:
    """Give a compute buffer in values for each token, one mask left out."""
    return (compute_bytes(header, WORK, role) - WHOLE_MASK) / VALUE


def test_the_last_layer_feeds_few_tokens_forward() -> None:
    header = of_widths(1024, 1024, 1024)
    steps = steps_by_layer(header)[0]

    assert values_of(header, replace(BETWEEN, core_layers=(1,))) == steps.core > steps.attention
    assert values_of(header, replace(BETWEEN, core_layers=(2,))) == steps.attention
    assert values_of(replace(header, architecture="gemma4"), replace(BETWEEN, core_layers=(2,))) == steps.core
    # What foretells tokens comes after the last layer.
    assert values_of(replace(header, proposing_layers=1), replace(BETWEEN, core_layers=(1,))) == steps.attention
    with_all = replace(WORK, gives_embeddings=True)
    assert (compute_bytes(header, with_all, replace(BETWEEN, core_layers=(2,))) - WHOLE_MASK) / VALUE == steps.core


def test_the_experts_of_the_last_layer_do_little_work() -> None:
    experts = [
        a_tensor(f"blk.{layer}.ffn_{name}_exps.weight", *shape, 8)
        for layer in range(2)
        for name, shape in (("gate", (WIDE, 512)), ("up", (WIDE, 512)), ("down", (512, WIDE)))
    ]
    header = a_gguf_header(layers=2)
    kept = tuple(group for group in header.tensors if ".ffn_" not in group.name)
    header = replace(header, tensors=(*kept, *group_tensors(experts)), expert_count=8, expert_used_count=2)
    alone = replace(BETWEEN, core_layers=())

    # A card that has experts only looks at nothing, and needs no mask.
    assert compute_bytes(header, WORK, replace(alone, expert_layers=(0,))) == VALUE * steps_by_layer(header)[0].experts
    assert compute_bytes(header, WORK, replace(alone, expert_layers=(1,))) == 0


def test_a_card_has_the_masks_of_its_own_layers() -> None:
    header = replace(a_gguf_header(layers=4), sliding_window=512, sliding_layers=(0, 2))
    small = 2 * TOKENS * 768
    own = VALUE * steps_by_layer(header)[0].core

    assert compute_bytes(header, WORK, replace(BETWEEN, core_layers=(0,))) == small + own
    assert compute_bytes(header, WORK, replace(BETWEEN, core_layers=(1,))) == WHOLE_MASK + own
    assert compute_bytes(header, WORK, replace(BETWEEN, core_layers=(0, 1))) == small + WHOLE_MASK + own
    assert compute_bytes(header, WORK, BETWEEN) == small + WHOLE_MASK + own


def test_a_layer_that_remembers_needs_no_mask() -> None:
    recurrence = Recurrence(conv_kernel=4, inner_size=128, state_size=16, group_count=1, time_step_rank=8)
    header = replace(a_gguf_header(layers=2), architecture="jamba", head_count_kv=(0, 2), recurrence=recurrence)
    ssm = group_tensors([a_tensor("blk.0.ssm_in.weight", WIDE, 300)])
    header = replace(header, tensors=(*header.tensors, *ssm))

    remembers, looks = (compute_bytes(header, WORK, replace(BETWEEN, core_layers=(layer,))) for layer in (0, 1))

    assert remembers < WHOLE_MASK < looks


def test_what_its_layer_began_with_is_handed_to_the_first_layer_of_a_card() -> None:
    narrow, wide = of_widths(64, 64, 64), of_widths(64, 1024, 64)
    role = replace(BETWEEN, is_pipelined=True, core_layers=(0, 1))

    first = compute_bytes(narrow, WORK, role) - 4 * WHOLE_MASK
    later = compute_bytes(wide, WORK, role) - 4 * WHOLE_MASK

    assert first == VALUE * (steps_by_layer(narrow)[0].core + 2 * 4 * WIDE)
    assert later == VALUE * (steps_by_layer(wide)[1].core + 4 * WIDE)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (of_widths(4096, 4096, 4096), lambda copied: copied // 3),
        (of_widths(4096, 2048, 4096), lambda copied: copied),
        # Windows leave 64 MiB, or half of it.
        (replace(of_widths(4096, 4096, 4096), sliding_window=512, sliding_layers=(1,)), lambda copied: copied // 2),
    ],
    ids=["even", "uneven", "windows"],
)
def test_copies_of_the_cpu_s_keys_find_room_between_steps(header: GgufHeader, kept: object) -> None:
    devices = (CPU, "CUDA0", "CUDA0", "CUDA0")
    copied = kv_by_layer(header, WORK)[0]
    masks = WHOLE_MASK + (2 * TOKENS * 768 if header.sliding_window else 0)
    widest = max(one.core for one in steps_by_layer(header)[:2])
    assert callable(kept)

    first = model_loads(header, WORK, devices)[0]

    assert first.compute_bytes == masks + lent_weights_bytes(header, "CUDA0", devices) + VALUE * widest + kept(copied)


def test_long_contexts_of_windowed_models_leave_a_fixed_part() -> None:
    header = replace(of_widths(4096, 4096, 4096), sliding_window=512, sliding_layers=(1,))
    short, long = (replace(WORK, context_tokens=65536 * times) for times in (16, 32))
    devices = (CPU, "CUDA0", "CUDA0", "CUDA0")

    found = [model_loads(header, work, devices)[0].compute_bytes for work in (short, long)]
    copied = [kv_by_layer(header, work)[0] for work in (short, long)]

    assert min(copied) >= 128 * MIB
    assert found[1] - found[0] == 2 * TOKENS * 65536 * 16 + copied[1] - copied[0]


@pytest.mark.parametrize(("parallel", "micro_batch"), [(1, 8192), (3, 8193), (4, 8192), (5, 8195)])
def test_a_micro_batch_that_takes_a_whole_text_is_shared_evenly_by_slots(parallel: int, micro_batch: int) -> None:
    """With 8192 for three slots llama-server b10068 ends in an assertion."""
    model = a_model(kind=ModelKind.EMBEDDING, weights=some_weights(header=a_gguf_header()))
    instance = an_instance(model, serving=a_serving(context_tokens=8192, parallel=parallel))

    assert workload(instance).micro_batch == micro_batch


def test_copies_of_keys_stay_beside_experts_that_are_lent_too() -> None:
    header = a_gguf_header(layers=3)
    experts = [
        a_tensor(f"blk.{layer}.ffn_{name}_exps.weight", *shape, 8)
        for layer in range(3)
        for name, shape in (("gate", (WIDE, 512)), ("up", (WIDE, 512)), ("down", (512, WIDE)))
    ]
    kept = tuple(group for group in header.tensors if ".ffn_" not in group.name)
    header = replace(header, tensors=(*kept, *group_tensors(experts)), expert_count=8, expert_used_count=2)
    devices = (CPU, "CUDA0", "CUDA0", "CUDA0")
    steps = steps_by_layer(header)[0]

    first = model_loads(header, WORK, devices)[0]

    lent = lent_weights_bytes(header, "CUDA0", devices) + VALUE * (steps.lent_experts + 2 * WIDE)
    assert first.compute_bytes == WHOLE_MASK + lent + kv_by_layer(header, WORK)[0]


@pytest.mark.parametrize(("mark", "share"), [("ssm_in", 4), ("ssm_out", 2)])
def test_in_hybrids_most_of_them_finds_room_beside_what_a_memory_takes(mark: str, share: int) -> None:
    recurrence = Recurrence(conv_kernel=4, inner_size=128, state_size=16, group_count=1, time_step_rank=8)
    header = replace(
        of_widths(65536, 65536, 65536), architecture="jamba", head_count_kv=(2, 0, 2), recurrence=recurrence
    )
    header = replace(header, tensors=(*header.tensors, *group_tensors([a_tensor(f"blk.1.{mark}.weight", WIDE, 300)])))
    devices = (CPU, "CUDA0", "CUDA0", "CUDA0")

    first = model_loads(header, WORK, devices)[0]

    states = 2 * state_bytes(header) + convolution_bytes(header)
    widest = VALUE * max(one.core for one in steps_by_layer(header)[:2]) + lent_weights_bytes(header, "CUDA0", devices)
    assert first.compute_bytes - WHOLE_MASK - states - widest == kv_by_layer(header, WORK)[0] // share
