"""Steps of the CPU's layers that the first card takes over for a single token, as llama-server b10068 counts splits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.gguf import GgufHeader, Recurrence, Tensor, group_tensors
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.costs import model_costs
from kloros_infra.placement.devices import cpu_device, devices_of
from kloros_infra.placement.speed import in_runs, speed_of
from kloros_infra.placement.taken_over import early_turns, expert_turns, turns_by_layer
from kloros_infra.placement.workload import Workload
from tests.factories import a_gguf_header, a_tensor, kloros_cards

ONE, THREE = Workload(4096, 1, 512), Workload(4096, 3, 512)
LAYERS = 4
MAMBA = Recurrence(conv_kernel=4, inner_size=256, state_size=16, group_count=1, time_step_rank=64)


def with_tensors(*rows: tuple[str, tuple[int, ...]], heads: int = 32, kv_heads: int = 8) -> GgufHeader:
    """Build a header of four layers, of which each has these tensors as well."""
    header = a_gguf_header(layers=LAYERS, embedding=1024, heads=heads, kv_heads=kv_heads)
    more = [a_tensor(f"blk.{layer}.{name}", *shape, type="F32") for name, shape in rows for layer in range(LAYERS)]
    return replace(header, tensors=(*header.tensors, *group_tensors(more)))


def hybrid(*remembering: int, experts: tuple[int, ...] = (), gives_skip: bool = False) -> GgufHeader:
    """Build a header in which these layers remember and the others look back."""
    rows: list[Tensor] = [a_tensor(f"blk.{layer}.ssm_in.weight", 1024, 512) for layer in remembering]
    rows += [a_tensor(f"blk.{layer}.ffn_up_exps.weight", 1024, 64, 8) for layer in experts]
    if gives_skip:
        rows += [a_tensor(f"blk.{layer}.ssm_d", 1, 64, type="F32") for layer in remembering]
    kv_heads = tuple(0 if layer in remembering else 8 for layer in range(LAYERS))
    header = replace(a_gguf_header(layers=LAYERS), architecture="jamba", head_count_kv=kv_heads, recurrence=MAMBA)
    kept = tuple(group for group in header.tensors if "attn_k" not in group.name)
    return replace(header, tensors=(*kept, *group_tensors(rows)))


@pytest.mark.parametrize(
    ("name", "shape", "work", "turns"),
    [
        # A row for each of 32 heads; 8 heads of keys are too few, and 24 in three slots as well.
        ("attn_q_norm.weight", (32,), ONE, 2),
        ("attn_k_norm.weight", (32,), ONE, 0),
        ("attn_k_norm.weight", (32,), THREE, 0),
        ("attn_k_norm.weight", (32,), replace(ONE, parallel=4), 2),
        # One norm over all heads has one row.
        ("attn_q_norm.weight", (1024,), THREE, 0),
        ("attn_sinks.weight", (32,), ONE, 2),
        ("ssm_d", (1, 64), ONE, 3),
        ("ssm_d", (256,), ONE, 0),
        # Without a recurrence in the header there is nothing to count by.
        ("ssm_norm.weight", (8,), ONE, 0),
    ],
)
def test_what_works_head_by_head_is_taken_over(name: str, shape: tuple[int, ...], work: Workload, turns: int) -> None:
    assert turns_by_layer(with_tensors((name, shape)), work) == (turns,) * LAYERS


@pytest.mark.parametrize(("group", "turns"), [((8,), 2), ((128, 2), 0)])
def test_a_norm_of_groups_has_a_row_for_each(group: tuple[int, ...], turns: int) -> None:
    header = replace(with_tensors(("ssm_norm.weight", group)), recurrence=MAMBA)

    assert turns_by_layer(header, ONE) == (turns,) * LAYERS


def test_factors_of_positions_begin_a_part_of_their_own_where_the_whole_context_is_seen() -> None:
    header = with_tensors(("attn_q_norm.weight", (32,)))
    factors = group_tensors([a_tensor("rope_freqs.weight", 16, type="F32")])
    header = replace(header, tensors=(*header.tensors, *factors), sliding_window=512, sliding_layers=(0, 2))

    assert turns_by_layer(header, ONE) == (2, 3, 2, 3)


def test_biases_of_experts_have_a_row_for_each_that_is_used() -> None:
    biases = (("ffn_up_exps.bias", (64, 8)), ("ffn_down_exps.bias", (1024, 8)))
    header = replace(with_tensors(*biases), expert_count=8, expert_used_count=4)

    assert expert_turns(header, replace(ONE, parallel=7)) == 0
    assert expert_turns(header, replace(ONE, parallel=8)) == 3
    assert expert_turns(replace(with_tensors(), expert_count=8, expert_used_count=4), replace(ONE, parallel=8)) == 0


@pytest.mark.parametrize(
    ("header", "devices", "turns"),
    [
        (hybrid(0, 1, 2, 3), ("a", "a", "b", "b"), 2),
        (hybrid(0, 1, 2, 3), ("a", "b", "c", "c"), 4),
        # Those that look back begin when it is their turn.
        (hybrid(0, 1), ("a", "a", "b", "b"), 0),
        (hybrid(2, 3), ("a", "a", "b", "b"), 2),
        # Experts are done before anything of a later layer.
        (hybrid(0, 1, 2, 3, experts=(1,)), ("a", "a", "b", "b"), 0),
        (replace(hybrid(0, 1, 2, 3), architecture="qwen3next"), ("a", "a", "b", "b"), 0),
        (a_gguf_header(layers=LAYERS), ("a", "a", "b", "b"), 0),
        # The first card gets the CPU's step and its own beginning at a time, another card does not.
        (hybrid(0, 1, 2, 3, gives_skip=True), (CPU, CPU, "a", "a"), 0),
        (hybrid(0, 1, 2, 3, gives_skip=True), (CPU, CPU, "b", "b"), 2),
        (hybrid(0, 1, 2, 3), (CPU, CPU, "a", "a"), 2),
    ],
)
def test_a_layer_that_remembers_begins_before_the_one_ahead_is_done(
    header: GgufHeader, devices: tuple[str, ...], turns: int
) -> None:
    assert early_turns(header, ONE, (*devices, devices[-1]), "a") == turns


def test_turns_are_splits_and_take_time_where_a_card_of_this_host_comes_first() -> None:
    header = with_tensors(("attn_q_norm.weight", (32,)))
    costs = model_costs(header, ONE)
    card, *_, cpu = devices_of(kloros_cards()[:1], cpu_device())
    plan = in_runs(("CUDA0",), (CPU, CPU, "CUDA0", "CUDA0", "CUDA0"))
    plain = model_costs(with_tensors(), ONE)

    def rated(first_is_remote: bool) -> tuple[int, float]:
        devices = {"CUDA0": replace(card, is_remote=first_is_remote), CPU: cpu}
        found, without = speed_of(costs, plan, devices), speed_of(plain, plan, devices)
        return found.splits - without.splits, found.decode_s - without.decode_s

    splits, seconds = rated(first_is_remote=False)
    assert splits == 4
    assert seconds == pytest.approx(4 * card.hop_s, rel=0.01)
    splits, seconds = rated(first_is_remote=True)
    assert splits == 0
    assert seconds < card.hop_s
    assert speed_of(costs, in_runs((), (CPU,) * 5), {CPU: cpu}).splits == 1
