"""Tensors that are alike but for their layer are kept as one group."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.gguf import Tensor, TensorGroup, group_tensors, merge_groups
from tests.factories import a_gguf_header


def a_norm(layer: int, *, size_bytes: int = 32) -> Tensor:
    return Tensor(f"blk.{layer}.attn_norm.weight", "F32", (8,), size_bytes)


def test_what_differs_in_more_than_the_layer_stays_apart() -> None:
    embedding = Tensor("token_embd.weight", "Q4_0", (32, 10), 180)

    assert group_tensors([a_norm(0), a_norm(2), a_norm(1, size_bytes=64), embedding, a_norm(3)]) == (
        TensorGroup("token_embd.weight", "Q4_0", (32, 10), 180),
        TensorGroup("blk.*.attn_norm.weight", "F32", (8,), 32, (0, 2, 3)),
        TensorGroup("blk.*.attn_norm.weight", "F32", (8,), 64, (1,)),
    )


def test_the_order_of_a_file_does_not_matter_within_a_group() -> None:
    assert group_tensors([a_norm(2), a_norm(0), a_norm(1)]) == group_tensors(map(a_norm, range(3)))


def test_groups_that_are_alike_become_one() -> None:
    groups = group_tensors(map(a_norm, range(4)))
    halves = [replace(groups[0], layers=(0, 2)), replace(groups[0], layers=(1, 3))]

    assert merge_groups(halves) == groups
    assert merge_groups(groups) == groups


def test_tensors_outside_the_layers_are_not_merged() -> None:
    """A name that stands there twice is for the reader of the table to find."""
    twice = [Tensor("output.weight", "F32", (8,), 32)] * 2

    assert len(group_tensors(twice)) == 2


@pytest.mark.parametrize("name", ["blk.x.q", "blk.0", "blk.0.", "blk.0-1.q", "blk.123456.q"])
def test_a_layer_s_tensor_has_its_number(name: str) -> None:
    with pytest.raises(ValueError, match="is not a tensor's name"):
        group_tensors([Tensor(name, "F32", (8,), 32)])


def test_every_tensor_of_a_group_counts() -> None:
    (norms,) = group_tensors(map(a_norm, range(4)))

    assert norms.total_bytes == 4 * 32
    assert replace(norms, layers=None).total_bytes == 32
    assert replace(a_gguf_header(), tensors=(norms,)).weights_bytes == 4 * 32
