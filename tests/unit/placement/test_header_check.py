"""Headers that say too little, or what is not known, are reported where the model stands in models.yaml."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.gguf import GgufHeader, LatentAttention, Recurrence, TensorGroup
from kloros_infra.placement.architectures import KNOWN, UNLIKE_ANY, lacking_facts
from kloros_infra.placement.block_sizes import BLOCKS
from kloros_infra.placement.header_check import header_problems
from tests.factories import a_draft, a_gguf_header, a_model, a_profile, an_instance, some_weights
from tests.sparse_models import FAMILIES


def problems_of(header: GgufHeader) -> Problems:
    """Check an instance of a model with a header."""
    return header_problems(an_instance(a_model("m", weights=some_weights(header=header)), a_profile("p")))


def with_tensor(name: str, type_: str = "F32") -> GgufHeader:
    """Add a tensor of each layer."""
    header = a_gguf_header()
    return replace(header, tensors=(*header.tensors, TensorGroup(name, type_, (64, 64), 64, (0, 1))))


def test_a_usual_header_is_fine() -> None:
    assert problems_of(a_gguf_header()) == ()
    assert {model().architecture for model in FAMILIES.values()} <= KNOWN
    assert {"MXFP4", "NVFP4", "TQ1_0"} <= BLOCKS.keys()
    assert not KNOWN & UNLIKE_ANY


def test_an_unknown_architecture_is_a_guess() -> None:
    (problem,) = problems_of(replace(a_gguf_header(), architecture="novel"))

    assert (problem.code, problem.is_error) == ("KI407", False)
    assert problem.address == "models.m.profiles.p"
    assert "novel" in problem.detail


def test_a_draft_model_is_looked_at_too() -> None:
    draft = a_draft("tiny", weights=some_weights("tiny@1", header=replace(a_gguf_header(), architecture="novel")))
    model = replace(a_model("m"), draft=draft)

    assert [problem.code for problem in header_problems(an_instance(model))] == ["KI407"]


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        (with_tensor("blk.*.attn_k_b.weight"), "attention.key_length_mla"),
        (with_tensor("blk.*.ssm_conv1d.weight"), "ssm.state_size"),
        (with_tensor("blk.*.shortconv.conv.weight"), "ssm.state_size"),
        (replace(a_gguf_header(), architecture="rwkv7"), "ssm.state_size"),
        (with_tensor("blk.*.nextn.eh_proj.weight"), "nextn_predict_layers"),
        (with_tensor("blk.*.ffn_up_exps.weight"), "expert_used_count"),
        (replace(a_gguf_header(), head_count_kv=(0, 0)), "attention.head_count_kv"),
        (replace(a_gguf_header(), key_length=0), "attention.key_length"),
        (replace(a_gguf_header(), vocabulary_size=0), "vocab_size"),
    ],
)
def test_a_header_that_says_too_little_is_refused(header: GgufHeader, lacking: str) -> None:
    (problem,) = problems_of(header)

    assert (problem.code, problem.is_error) == ("KI408", True)
    assert lacking in problem.detail


def test_many_facts_that_are_lacking_are_counted() -> None:
    header = replace(a_gguf_header(), key_length=0, head_count_kv=(0, 0), vocabulary_size=0, architecture="rwkv7")

    (problem,) = problems_of(header)

    assert "and 1 more" in problem.detail


def test_facts_that_are_there_are_not_lacking() -> None:
    latent = LatentAttention(rank=512, rope_length=64, key_length=192, value_length=128)
    header = replace(with_tensor("blk.*.attn_k_b.weight"), latent=latent)

    assert lacking_facts(header) == ()
    assert lacking_facts(replace(with_tensor("blk.*.nextn.enorm.weight"), proposing_layers=1)) == ()
    assert lacking_facts(replace(with_tensor("blk.*.ssm_a"), recurrence=Recurrence(state_size=16))) == ()


def test_a_mamba_needs_no_heads_and_an_encoder_no_words() -> None:
    mamba = replace(
        a_gguf_header(), architecture="mamba", recurrence=Recurrence(state_size=16), head_count_kv=(0, 0), key_length=0
    )
    encoder = replace(a_gguf_header(), architecture="bert", vocabulary_size=0, key_length=0)

    assert problems_of(mamba) == problems_of(encoder) == ()


def test_an_unknown_type_is_reported() -> None:
    (problem,) = problems_of(with_tensor("blk.*.attn_q.scale", "Q9_Z"))

    assert (problem.code, problem.is_error) == ("KI409", False)
    assert "Q9_Z" in problem.detail
