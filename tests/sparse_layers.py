"""Parts of the tensor tables that families share: names and shapes as in llama.cpp's src/models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.fakes.sparse_gguf import Key, Row

Rows = Iterator[Row]


@dataclass(frozen=True, slots=True)
class Types:
    """The types of one quantized model."""

    most: str
    head: str = "Q6_K"
    experts: str | None = None

    def of_experts(self) -> str:
        return self.experts or self.most


@dataclass(frozen=True, slots=True)
class Size:
    """What all decoders have."""

    layers: int
    wide: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    context: int = 131072

    @property
    def q(self) -> int:
        return self.heads * self.head

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head

    def keys(self, **others: Key) -> dict[str, Key]:
        """Give the keys of this size, and others (`_` in a name stands for a dot where it is doubled)."""
        return {
            "block_count": self.layers,
            "context_length": self.context,
            "embedding_length": self.wide,
            "feed_forward_length": self.feed_forward,
            "attention.head_count": self.heads,
            "attention.head_count_kv": self.kv_heads,
            "attention.key_length": self.head,
            "attention.value_length": self.head,
            "attention.layer_norm_rms_epsilon": 1e-6,
            "rope.freq_base": 1e6,
            **{name.replace("__", "."): value for name, value in others.items()},
        }


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of a layer, of which some are used for a token; `shared` is the width of those used for all."""

    count: int
    used: int
    wide: int
    shared: int = 0

    def keys(self) -> dict[str, Key]:
        return {
            "expert_count": self.count,
            "expert_used_count": self.used,
            "expert_feed_forward_length": self.wide,
        }


def outside(size: Size, types: Types, *, is_tied: bool = False, norm: str = "output_norm") -> Rows:
    yield "token_embd.weight", (size.wide, size.vocabulary), types.head if is_tied else types.most
    yield f"{norm}.weight", (size.wide,), "F32"
    if not is_tied:
        yield "output.weight", (size.wide, size.vocabulary), types.head


def norms(at: str, wide: int, *names: str) -> Rows:
    for name in names:
        yield f"{at}{name}.weight", (wide,), "F32"


def attention(at: str, size: Size, types: Types, *, bias: bool = False, q: int = 0, kv: int = -1) -> Rows:
    kv = size.kv if kv < 0 else kv
    for name, out in (("attn_q", q or size.q), ("attn_k", kv), ("attn_v", kv)):
        yield f"{at}{name}.weight", (size.wide, out), types.most
        if bias:
            yield f"{at}{name}.bias", (out,), "F32"
    yield f"{at}attn_output.weight", (size.q, size.wide), types.most


def feed_forward(at: str, wide: int, inner: int, type_: str, *, suffix: str = "", has_gate: bool = True) -> Rows:
    if has_gate:
        yield f"{at}ffn_gate{suffix}.weight", (wide, inner), type_
    yield f"{at}ffn_up{suffix}.weight", (wide, inner), type_
    yield f"{at}ffn_down{suffix}.weight", (inner, wide), type_


def experts_of(at: str, wide: int, experts: Experts, types: Types, *, has_bias: bool = False) -> Rows:
    yield f"{at}ffn_gate_inp.weight", (wide, experts.count), "F32"
    if has_bias:
        yield f"{at}ffn_gate_inp.bias", (experts.count,), "F32"
    for name, shape in (
        ("gate", (wide, experts.wide)),
        ("up", (wide, experts.wide)),
        ("down", (experts.wide, wide)),
    ):
        yield f"{at}ffn_{name}_exps.weight", (*shape, experts.count), types.of_experts()
        if has_bias:
            yield f"{at}ffn_{name}_exps.bias", (shape[1], experts.count), "F32"
    if experts.shared:
        yield from feed_forward(at, wide, experts.shared, types.most, suffix="_shexp")


@dataclass(frozen=True, slots=True)
class Recurrent:
    """The state of a layer that remembers instead of looking back (ssm.*)."""

    conv: int
    inner: int
    state: int
    rank: int
    groups: int = 0

    def keys(self) -> dict[str, Key]:
        found: dict[str, Key] = {
            "ssm__conv_kernel": self.conv,
            "ssm__inner_size": self.inner,
            "ssm__state_size": self.state,
            "ssm__time_step_rank": self.rank,
        }
        return {**found, "ssm__group_count": self.groups} if self.groups else found


def mamba2_layer(at: str, wide: int, ssm: Recurrent, types: Types) -> Rows:
    mixed = ssm.inner + 2 * ssm.groups * ssm.state
    yield f"{at}ssm_in.weight", (wide, ssm.inner + mixed + ssm.rank), types.most
    yield f"{at}ssm_conv1d.weight", (ssm.conv, mixed), "F32"
    yield f"{at}ssm_conv1d.bias", (mixed,), "F32"
    yield f"{at}ssm_dt.bias", (ssm.rank,), "F32"
    yield f"{at}ssm_a", (1, ssm.rank), "F32"
    yield f"{at}ssm_d", (1, ssm.rank), "F32"
    yield f"{at}ssm_norm.weight", (ssm.inner // ssm.groups, ssm.groups), "F32"
    yield f"{at}ssm_out.weight", (ssm.inner, wide), types.most


def mamba1_layer(at: str, wide: int, ssm: Recurrent, types: Types) -> Rows:
    yield f"{at}ssm_in.weight", (wide, 2 * ssm.inner), types.most
    yield f"{at}ssm_conv1d.weight", (ssm.conv, ssm.inner), "F32"
    yield f"{at}ssm_conv1d.bias", (ssm.inner,), "F32"
    yield f"{at}ssm_x.weight", (ssm.inner, ssm.rank + 2 * ssm.state), types.most
    yield from norms(at, ssm.rank, "ssm_dt_norm")
    yield f"{at}ssm_dt.weight", (ssm.rank, ssm.inner), "F32"
    yield f"{at}ssm_dt.bias", (ssm.inner,), "F32"
    yield from norms(at, ssm.state, "ssm_b_norm", "ssm_c_norm")
    yield f"{at}ssm_a", (ssm.state, ssm.inner), "F32"
    yield f"{at}ssm_d", (ssm.inner,), "F32"
    yield f"{at}ssm_out.weight", (ssm.inner, wide), types.most
