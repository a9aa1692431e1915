"""What llama.cpp knows of a family by its name, and no header says (src/models/*.cpp, src/llama-model.cpp).

Everything else follows from a header's keys and its tensor table: a family that is not listed here is foreseen by the
generic rules, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.ir.gguf import GgufHeader

ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
    }
)
"""They read a text in one go and keep no keys and values (llama_model::create_memory)."""

WITHOUT_MEMORY = ENCODERS | {"dream", "llada", "llada-moe", "rnd1", "wavtokenizer-dec"}
"""The same rule holds for models of diffusion."""

MLA = frozenset({"deepseek2", "deepseek2-ocr", "deepseek32", "glm-dsa", "kimi-linear", "mistral4"})
"""Keys and values of older files of these are not compressed; newer ones say how (llama_hparams::is_mla)."""

RECURRENT = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})
"""llm_arch_is_recurrent."""

HYBRID = frozenset(
    {
        "falcon-h1",
        "granitehybrid",
        "jamba",
        "kimi-linear",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
        "plamo2",
        "qwen35",
        "qwen35moe",
        "qwen3next",
    }
)
"""llm_arch_is_hybrid."""

SKIPS_PROPOSING_WEIGHTS = frozenset(
    {"bailingmoe2", "deepseek32", "exaone-moe", "exaone4", "glm-dsa", "glm4", "glm4moe", "mimo2"}
)
"""Blocks that propose tokens are in the file and are not loaded (TENSOR_SKIP)."""

PROPOSES_WITHOUT_KEYS = HYBRID | {"hy_v3", "step35"}
"""Their proposing blocks get keys and values only in a context of their own (create_memory, filter)."""

KEEPS_ALL_TOKENS = frozenset({"cohere2moe", "gemma3n", "gemma4", "hy_v3", "qwen35", "qwen35moe", "step35"})
"""Their last layer computes all tokens of a micro-batch, others' only those whose result is asked for (inp_out_ids)."""

LAYER_BY_LAYER = frozenset({"kimi-linear", "qwen35", "qwen35moe", "qwen3next"})
"""Hybrids whose graph has all of a layer before anything of the next (ggml_build_forward_expand in their loop)."""

UNLIKE_ANY = frozenset({"deepseek32", "deepseek4", "glm-dsa", "t5"})
"""Their memory has parts that no rule here knows: an index of keys, compressed windows, an encoder's states."""

_OTHERS = """
afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bitnet bloom chameleon chatglm codeshell cogvlm cohere2
cohere2moe command-r dbrx deci deepseek dots1 ernie4_5 ernie4_5-moe exaone exaone-moe exaone4 falcon gemma gemma2
gemma3 gemma3n gemma4 glm4 glm4moe gpt-oss gpt2 gptj gptneox granite granitemoe grok grovemoe hunyuan-dense
hunyuan-moe hunyuan_vl hy_v3 internlm2 jais jais2 llama llama-embed llama4 maincoder mellum mimo2 minicpm minicpm3
minimax-m2 mistral3 mpt nemotron olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo3
plm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe refact seed_oss smallthinker smollm3 stablelm
starcoder starcoder2 step35 talkie xverse
"""
KNOWN = (WITHOUT_MEMORY | MLA | RECURRENT | HYBRID | frozenset(_OTHERS.split())) - UNLIKE_ANY
"""Families that the rules of this project are held against (llama-arch.cpp, LLM_ARCH_NAMES, b10068)."""


def lacking_facts(header: GgufHeader) -> tuple[str, ...]:
    """Name the keys that a family's header must have and this one lacks; an earlier version did not read them."""
    return tuple(_lacking(header))


def _lacking(header: GgufHeader) -> Iterator[str]:
    names = {group.name for group in header.tensors}
    if "blk.*.attn_k_b.weight" in names and header.latent is None:
        yield "attention.key_length_mla"
    if header.recurrence is None and (
        header.architecture in RECURRENT | HYBRID or any(".ssm_" in name or ".shortconv." in name for name in names)
    ):
        yield "ssm.state_size"
    if any(".nextn." in name for name in names) and not header.proposing_layers:
        yield "nextn_predict_layers"
