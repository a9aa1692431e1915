"""What the real gguf-tensor-overrider printed for published models, and the models that it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from kloros_infra.ir.catalog import Card, Instance, PlacementMode
from kloros_infra.ir.gguf import GgufHeader, Tensor, group_tensors
from kloros_infra.placement.block_sizes import tensor_bytes
from kloros_infra.placement.published import derive_header
from tests.factories import a_model, a_profile, a_serving, an_instance, kloros_cards, some_weights
from tests.fakes.sparse_gguf import SparseModel
from tests.sparse_models import FAMILIES

MIB = 2**20
FOLDER = Path(__file__).parent / "cases" / "overrider"
CONTEXT_TOKENS = 16384
# As CUDA sees them; nvidia-smi, which the tool asked, shows more.
SEEN_MIB = (15880, 11906, 11165)
SHOWN_MIB = (16303, 12288, 11264)


def published(architecture: str, quantization: str) -> GgufHeader:
    header = derive_header(architecture, quantization)
    assert header is not None
    return header


def header_of(model: SparseModel) -> GgufHeader:
    """Read a sparse model's keys, without a file."""
    keys = model.keys

    def number(key: str) -> int:
        value = keys.get(key, 0)
        assert isinstance(value, int)
        return value

    layers = number("block_count")
    return GgufHeader(
        architecture=model.architecture,
        layer_count=layers,
        embedding_length=number("embedding_length"),
        feed_forward_length=number("feed_forward_length"),
        head_count=number("attention.head_count"),
        head_count_kv=(number("attention.head_count_kv"),) * layers,
        key_length=number("attention.key_length"),
        value_length=number("attention.value_length"),
        context_length=number("context_length"),
        vocabulary_size=model.vocabulary,
        tensors=group_tensors(
            Tensor(name, type_, shape, tensor_bytes(type_, shape)) for name, shape, type_ in model.rows
        ),
        expert_count=number("expert_count"),
        expert_used_count=number("expert_used_count"),
    )


HEADERS: Mapping[str, Callable[[], GgufHeader]] = {
    "qwen25-coder-7b-q4_0": lambda: published("qwen2.5-7b", "Q4_0"),
    "ds-r1-distill-14b-q4_k_m": lambda: published("qwen2.5-14b", "Q4_K_M"),
    "qwen25-coder-32b-q5_k_m": lambda: published("qwen2.5-32b", "Q5_K_M"),
    "qwen3-30b-a3b-q4_k_m": lambda: header_of(FAMILIES["qwen3-30b-a3b"]()),
    "qwen3-235b-a22b-q4_k": lambda: header_of(FAMILIES["qwen3-235b-a22b"]()),
}
CONTEXTS = {"qwen3-235b-a22b-q4_k": 4096}
"""Those that were asked for with another context than the others."""


def instance_of(name: str) -> Instance:
    """Build what the tool was asked for."""
    return an_overridden(HEADERS[name](), context_tokens=CONTEXTS.get(name, CONTEXT_TOKENS))


def output_of(name: str) -> str:
    """Give what the tool printed."""
    return (FOLDER / name / "output.txt").read_text()


def seen_cards() -> tuple[Card, ...]:
    """Give the three cards of the design document, with the memory that CUDA sees."""
    return tuple(replace(card, vram_bytes=seen * MIB) for card, seen in zip(kloros_cards(), SEEN_MIB, strict=True))


def an_overridden(header: GgufHeader, *cards: Card, context_tokens: int = CONTEXT_TOKENS) -> Instance:
    """Build an instance that the overrider places."""
    return an_instance(
        a_model("big", weights=some_weights(header=header), context_tokens=context_tokens),
        a_profile("max", *(cards or seen_cards())),
        serving=a_serving(context_tokens=context_tokens, placement=PlacementMode.OVERRIDER),
    )


def every_tensor(header: GgufHeader) -> Iterator[tuple[str, tuple[int, ...], int | None]]:
    """Write a tensor table out: names, shapes, and the layer of those that have one."""
    for group in header.tensors:
        for layer in group.layers or (None,):
            yield (group.name if layer is None else group.name.replace("*", str(layer), 1)), group.shape, layer
