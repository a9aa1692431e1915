"""Published models by family, as sparse files: the shapes of their config.json, the tensor names of llama.cpp.

Each family has another rule for keys and values, or another widest step: what a family's header must have is in
llama.cpp's src/models/<architecture>.cpp, load_arch_hparams and load_arch_tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.fakes.sparse_gguf import Row, SparseModel
from tests.sparse_layers import (
    Experts,
    Recurrent,
    Size,
    Types,
    attention,
    experts_of,
    feed_forward,
    mamba1_layer,
    mamba2_layer,
    norms,
    outside,
)


def dense(architecture: str, size: Size, types: Types, *, bias: bool = False) -> SparseModel:
    """Qwen2, Llama 3: keys and values of all layers alike."""
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "ffn_norm")
        rows += attention(at, size, types, bias=bias)
        rows += feed_forward(at, size.wide, size.feed_forward, types.most)
    return SparseModel(architecture, size.keys(), tuple(rows), size.vocabulary)


def qwen3moe(size: Size, experts: Experts, types: Types) -> SparseModel:
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "ffn_norm")
        rows += norms(at, size.head, "attn_q_norm", "attn_k_norm")
        rows += attention(at, size, types)
        rows += experts_of(at, size.wide, experts, types)
    return SparseModel("qwen3moe", size.keys(**experts.keys()), tuple(rows), size.vocabulary)


def gpt_oss(size: Size, experts: Experts) -> SparseModel:
    """Every second layer sees a window of 128 tokens; the experts are MXFP4."""
    types = Types("Q8_0", head="Q8_0", experts="MXFP4")
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "post_attention_norm")
        rows += attention(at, size, types, bias=True)
        rows += [(f"{at}attn_output.bias", (size.wide,), "F32"), (f"{at}attn_sinks.weight", (size.heads,), "F32")]
        rows += experts_of(at, size.wide, experts, types, has_bias=True)
    keys = size.keys(attention__sliding_window=128, **experts.keys())
    return SparseModel("gpt-oss", keys, tuple(rows), size.vocabulary)


def gemma(architecture: str, size: Size, window: int, types: Types) -> SparseModel:
    """Windows by a period that the file does not say, and a head that is the token embedding."""
    rows = [*outside(size, types, is_tied=True)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        if architecture == "gemma3":
            rows += norms(at, size.head, "attn_q_norm", "attn_k_norm")
        rows += attention(at, size, types)
        rows += feed_forward(at, size.wide, size.feed_forward, types.most)
    keys = size.keys(attention__sliding_window=window)
    return SparseModel(architecture, keys, tuple(rows), size.vocabulary)


def deepseek2(size: Size, experts: Experts, types: Types, *, q_lora: int, dense_layers: int) -> SparseModel:
    """Keys and values compressed into one vector per token (MLA): 512 values and 64 of position."""
    lora, rope, nope, value = 512, 64, 128, 128
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "ffn_norm")
        rows += norms(at, lora, "attn_kv_a_norm")
        if q_lora:
            rows += norms(at, q_lora, "attn_q_a_norm")
            rows.append((f"{at}attn_q_a.weight", (size.wide, q_lora), types.most))
            rows.append((f"{at}attn_q_b.weight", (q_lora, size.heads * (nope + rope)), types.most))
        else:
            rows.append((f"{at}attn_q.weight", (size.wide, size.heads * (nope + rope)), types.most))
        rows.append((f"{at}attn_kv_a_mqa.weight", (size.wide, lora + rope), types.most))
        rows.append((f"{at}attn_k_b.weight", (nope, lora, size.heads), "Q8_0"))
        rows.append((f"{at}attn_v_b.weight", (lora, value, size.heads), "Q8_0"))
        rows.append((f"{at}attn_output.weight", (size.heads * value, size.wide), types.most))
        if layer < dense_layers:
            rows += feed_forward(at, size.wide, size.feed_forward, types.most)
        else:
            rows += experts_of(at, size.wide, experts, types)
    keys = size.keys(
        leading_dense_block_count=dense_layers,
        expert_shared_count=experts.shared // experts.wide,
        attention__kv_lora_rank=lora,
        attention__key_length_mla=nope + rope,
        attention__value_length_mla=value,
        rope__dimension_count=rope,
        **({"attention__q_lora_rank": q_lora} if q_lora else {}),
        **experts.keys(),
    )
    keys |= {"attention.head_count_kv": 1, "attention.key_length": lora + rope, "attention.value_length": lora}
    return SparseModel("deepseek2", keys, tuple(rows), size.vocabulary)


def mamba2(size: Size, ssm: Recurrent, types: Types) -> SparseModel:
    """No attention at all: the memory of a slot does not grow with the context."""
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        rows += norms(f"blk.{layer}.", size.wide, "attn_norm")
        rows += mamba2_layer(f"blk.{layer}.", size.wide, ssm, types)
    keys = size.keys(**ssm.keys())
    keys |= {"attention.head_count": 0, "attention.head_count_kv": 0}
    return SparseModel("mamba2", keys, tuple(rows), size.vocabulary)


def jamba(size: Size, experts: Experts, ssm: Recurrent, types: Types) -> SparseModel:
    """One layer of eight looks back, the others remember; every second one has experts."""
    rows = [*outside(size, types)]
    looks_back = [layer % 8 == 4 for layer in range(size.layers)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "ffn_norm")
        rows += attention(at, size, types) if looks_back[layer] else mamba1_layer(at, size.wide, ssm, types)
        if layer % 2:
            rows += experts_of(at, size.wide, experts, types)
        else:
            rows += feed_forward(at, size.wide, size.feed_forward, types.most)
    keys = size.keys(expert_count=experts.count, expert_used_count=experts.used, **ssm.keys())
    keys["attention.head_count_kv"] = [size.kv_heads if one else 0 for one in looks_back]
    return SparseModel("jamba", keys, tuple(rows), size.vocabulary)


def qwen3next(size: Size, experts: Experts, ssm: Recurrent, types: Types) -> SparseModel:
    """Every fourth layer looks back, the others are gated delta nets."""
    rows = [*outside(size, types)]
    keys_wide, values_wide = ssm.state * ssm.groups, ssm.state * ssm.rank
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "post_attention_norm")
        if layer % 4 == 3:
            rows += attention(at, size, types, q=2 * size.q)
            rows += norms(at, size.head, "attn_q_norm", "attn_k_norm")
        else:
            mixed = 2 * keys_wide + values_wide
            rows.append((f"{at}attn_qkv.weight", (size.wide, mixed), types.most))
            rows.append((f"{at}attn_gate.weight", (size.wide, values_wide), types.most))
            rows.append((f"{at}ssm_conv1d.weight", (ssm.conv, mixed), "F32"))
            rows.append((f"{at}ssm_dt.bias", (ssm.rank,), "F32"))
            rows.append((f"{at}ssm_a", (ssm.rank,), "F32"))
            rows.append((f"{at}ssm_ba.weight", (size.wide, 2 * ssm.rank), types.most))
            rows += norms(at, ssm.state, "ssm_norm")
            rows.append((f"{at}ssm_out.weight", (values_wide, size.wide), types.most))
        rows += experts_of(at, size.wide, experts, types)
        rows.append((f"{at}ffn_gate_inp_shexp.weight", (size.wide,), "F32"))
    keys = size.keys(
        full_attention_interval=4,
        expert_shared_feed_forward_length=experts.shared,
        rope__dimension_count=size.head // 4,
        **ssm.keys(),
        **experts.keys(),
    )
    return SparseModel("qwen3next", keys, tuple(rows), size.vocabulary)


def nemotron_h(size: Size, ssm: Recurrent, pattern: str, types: Types) -> SparseModel:
    """Each layer is one thing: M remembers, - feeds forward, * looks back."""
    rows = [*outside(size, types)]
    for layer, kind in enumerate(pattern):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm")
        match kind:
            case "M":
                rows += mamba2_layer(at, size.wide, ssm, types)
            case "*":
                rows += attention(at, size, types)
            case _:
                rows += feed_forward(at, size.wide, size.feed_forward, types.most, has_gate=False)
    keys = size.keys(**ssm.keys())
    keys["feed_forward_length"] = [size.feed_forward if kind == "-" else 0 for kind in pattern]
    keys["attention.head_count_kv"] = [size.kv_heads if kind == "*" else 0 for kind in pattern]
    return SparseModel("nemotron_h", keys, tuple(rows), size.vocabulary)


def deci(size: Size, kv_heads: Sequence[int], widths: Sequence[int], types: Types) -> SparseModel:
    """Layers pruned one by one: each has its own number of heads, or none."""
    rows = [*outside(size, types)]
    for layer, (heads, width) in enumerate(zip(kv_heads, widths, strict=True)):
        at = f"blk.{layer}."
        if heads:
            rows += norms(at, size.wide, "attn_norm")
            rows += attention(at, size, types, kv=heads * size.head)
        rows += norms(at, size.wide, "ffn_norm")
        rows += feed_forward(at, size.wide, width, types.most)
    keys = size.keys()
    keys["feed_forward_length"] = list(widths)
    keys["attention.head_count"] = [size.heads if heads else 0 for heads in kv_heads]
    keys["attention.head_count_kv"] = list(kv_heads)
    return SparseModel("deci", keys, tuple(rows), size.vocabulary)


def glm4moe(size: Size, experts: Experts, types: Types) -> SparseModel:
    """The last block proposes tokens: it is in the file, its weights are not loaded, its keys and values are."""
    rows = [*outside(size, types)]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows += norms(at, size.wide, "attn_norm", "post_attention_norm")
        rows += attention(at, size, types, bias=True)
        if layer == 0:
            rows += feed_forward(at, size.wide, size.feed_forward, types.most)
        else:
            rows += experts_of(at, size.wide, experts, types)
            rows.append((f"{at}exp_probs_b.bias", (experts.count,), "F32"))
    last = f"blk.{size.layers - 1}."
    rows.append((f"{last}nextn.eh_proj.weight", (2 * size.wide, size.wide), types.most))
    rows += norms(last, size.wide, "nextn.enorm", "nextn.hnorm")
    keys = size.keys(
        nextn_predict_layers=1,
        leading_dense_block_count=1,
        expert_shared_count=experts.shared // experts.wide,
        rope__dimension_count=size.head // 2,
        **experts.keys(),
    )
    return SparseModel("glm4moe", keys, tuple(rows), size.vocabulary)


def gemma4(size: Size, window: int, swa: tuple[int, int], types: Types) -> SparseModel:
    """Windows by an array, and heads of another length and number in them; `swa` is that of one layer's window."""
    kv_heads, head = swa
    slides = [layer % 6 != 5 for layer in range(size.layers)]
    rows = [*outside(size, types, is_tied=True), ("rope_freqs.weight", (size.head // 2,), "F32")]
    for layer, is_sliding in enumerate(slides):
        at = f"blk.{layer}."
        wide_head, wide_kv = (head, kv_heads * head) if is_sliding else (size.head, size.kv)
        rows += norms(at, size.wide, "attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        rows += norms(at, wide_head, "attn_q_norm", "attn_k_norm")
        for name, out in (("attn_q", size.heads * wide_head), ("attn_k", wide_kv), ("attn_v", wide_kv)):
            rows.append((f"{at}{name}.weight", (size.wide, out), types.most))
        rows.append((f"{at}attn_output.weight", (size.heads * wide_head, size.wide), types.most))
        rows += feed_forward(at, size.wide, size.feed_forward, types.most)
    keys = size.keys(
        attention__sliding_window=window,
        attention__sliding_window_pattern=slides,
        attention__key_length_swa=head,
        attention__value_length_swa=head,
        rope__dimension_count_swa=head,
        rope__dimension_count=size.head,
        embedding_length_per_layer_input=0,
    )
    keys["attention.head_count_kv"] = [kv_heads if one else size.kv_heads for one in slides]
    return SparseModel("gemma4", keys, tuple(rows), size.vocabulary)


def nomic_bert(size: Size, types: Types) -> SparseModel:
    """An encoder: a text in one go, and nothing kept of it."""
    rows: list[Row] = [("token_embd.weight", (size.wide, size.vocabulary), types.most)]
    rows += [("token_types.weight", (size.wide, 2), "F32")]
    rows += [(f"token_embd_norm.{part}", (size.wide,), "F32") for part in ("weight", "bias")]
    for layer in range(size.layers):
        at = f"blk.{layer}."
        rows.append((f"{at}attn_qkv.weight", (size.wide, 3 * size.wide), types.most))
        rows.append((f"{at}attn_output.weight", (size.wide, size.wide), types.most))
        rows += feed_forward(at, size.wide, size.feed_forward, types.most)
        for norm in ("attn_output_norm", "layer_output_norm"):
            rows += [(f"{at}{norm}.{part}", (size.wide,), "F32") for part in ("weight", "bias")]
    keys = size.keys(attention__causal=False, pooling_type=1, attention__layer_norm_epsilon=1e-12)
    return SparseModel("nomic-bert", keys, tuple(rows), size.vocabulary, {"tokenizer.ggml.token_type_count": 2})


_NEMOTRON_H_8B = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"

FAMILIES: Mapping[str, Callable[[], SparseModel]] = {
    "qwen2.5-7b": lambda: dense("qwen2", Size(28, 3584, 18944, 28, 4, 128, 152064), Types("Q4_0"), bias=True),
    "qwen2.5-32b": lambda: dense("qwen2", Size(64, 5120, 27648, 40, 8, 128, 152064), Types("Q5_K"), bias=True),
    "llama-3.1-8b": lambda: dense("llama", Size(32, 4096, 14336, 32, 8, 128, 128256), Types("Q4_K")),
    "llama-3.3-70b": lambda: dense("llama", Size(80, 8192, 28672, 64, 8, 128, 128256), Types("IQ2_XS")),
    "qwen3-30b-a3b": lambda: qwen3moe(Size(48, 2048, 6144, 32, 4, 128, 151936), Experts(128, 8, 768), Types("Q4_K")),
    "qwen3-235b-a22b": lambda: qwen3moe(
        Size(94, 4096, 12288, 64, 4, 128, 151936), Experts(128, 8, 1536), Types("Q4_K")
    ),
    "gpt-oss-20b": lambda: gpt_oss(Size(24, 2880, 2880, 64, 8, 64, 201088), Experts(32, 4, 2880)),
    "gpt-oss-120b": lambda: gpt_oss(Size(36, 2880, 2880, 64, 8, 64, 201088), Experts(128, 4, 2880)),
    "gemma-2-9b": lambda: gemma("gemma2", Size(42, 3584, 14336, 16, 8, 256, 256000), 4096, Types("Q4_K")),
    "gemma-3-12b": lambda: gemma("gemma3", Size(48, 3840, 15360, 16, 8, 256, 262208), 1024, Types("Q4_0")),
    "gemma-4-31b": lambda: gemma4(Size(60, 5376, 21504, 32, 4, 512, 262144), 1024, (16, 256), Types("Q4_K")),
    "deepseek-v2-lite": lambda: deepseek2(
        Size(27, 2048, 10944, 16, 16, 192, 102400), Experts(64, 6, 1408, 2816), Types("Q4_0"), q_lora=0, dense_layers=1
    ),
    "deepseek-v3": lambda: deepseek2(
        Size(61, 7168, 18432, 128, 128, 192, 129280),
        Experts(256, 8, 2048, 2048),
        Types("IQ2_XXS"),
        q_lora=1536,
        dense_layers=3,
    ),
    "mamba2-2.7b": lambda: mamba2(Size(64, 2560, 0, 1, 1, 64, 50288), Recurrent(4, 5120, 128, 80, 1), Types("Q8_0")),
    "jamba-mini": lambda: jamba(
        Size(32, 4096, 14336, 32, 8, 128, 65536), Experts(16, 2, 14336), Recurrent(4, 8192, 16, 256), Types("Q4_K")
    ),
    "qwen3-next-80b-a3b": lambda: qwen3next(
        Size(48, 2048, 5120, 16, 2, 256, 151936),
        Experts(512, 10, 512, 512),
        Recurrent(4, 4096, 128, 32, 16),
        Types("Q4_K"),
    ),
    "nemotron-h-8b": lambda: nemotron_h(
        Size(52, 4096, 21504, 32, 8, 128, 131072), Recurrent(4, 8192, 128, 128, 8), _NEMOTRON_H_8B, Types("Q4_K")
    ),
    "nemotron-super-49b": lambda: deci(
        Size(80, 8192, 28672, 64, 8, 128, 128256),
        [0 if layer % 3 == 1 and layer > 40 else 8 for layer in range(80)],
        [14336 if layer % 4 == 2 else 28672 if layer < 40 else 7168 for layer in range(80)],
        Types("Q3_K"),
    ),
    "nomic-embed-text-v1.5": lambda: nomic_bert(Size(12, 768, 3072, 12, 12, 64, 30522, 8192), Types("F16")),
    "glm-4.5-air": lambda: glm4moe(
        Size(47, 4096, 10944, 96, 8, 128, 151552), Experts(128, 8, 1408, 1408), Types("Q4_0")
    ),
}
"""One call for each model, by its name."""
