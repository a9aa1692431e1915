"""Whether a header says enough to foresee a model's memory (KI407 to KI409)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.placement.architectures import KNOWN, WITHOUT_MEMORY, lacking_facts
from kloros_infra.placement.block_sizes import BLOCKS
from kloros_infra.placement.memory_roles import EXPERTS_MARK
from kloros_infra.placement.memory_state import remembering_layers
from kloros_infra.placement.problems import address_of

_SHOWN = 3


def header_problems(instance: Instance) -> Problems:
    """Say what of a model's header, and of its draft model's, makes its memory a guess or unknown."""
    draft = instance.model.draft
    headers = [instance.model.weights.header, *([draft.weights.header] if draft else [])]
    return tuple(problem for header in headers for problem in _problems(instance, header))


def _problems(instance: Instance, header: GgufHeader) -> Iterator[Diagnostic]:
    if header.architecture not in KNOWN:
        yield _unknown_architecture(instance, header)
    if lacks := _lacking(header):
        yield _says_too_little(instance, header, lacks)
    unknown = sorted({group.type for group in header.tensors} - BLOCKS.keys())
    if unknown:
        yield _unknown_types(instance, unknown)


def _lacking(header: GgufHeader) -> tuple[str, ...]:
    """Name the keys without which memory cannot be foreseen: absent, or zero where that cannot be."""
    return tuple(dict.fromkeys((*lacking_facts(header), *_zeros(header))))


def _zeros(header: GgufHeader) -> Iterator[str]:
    looks_back = header.architecture not in WITHOUT_MEMORY and len(remembering_layers(header)) < header.layer_count
    if looks_back and not any(header.head_count_kv):
        yield "attention.head_count_kv"
    if looks_back and not header.key_length:
        yield "attention.key_length"
    if any(EXPERTS_MARK in group.name for group in header.tensors) and not header.expert_used_count:
        yield "expert_used_count"
    if not header.vocabulary_size and header.architecture not in WITHOUT_MEMORY:
        yield "vocab_size"


def _unknown_architecture(instance: Instance, header: GgufHeader) -> Diagnostic:
    return Diagnostic(
        code="KI407",
        summary="Unknown architecture",
        detail=f"{instance.id.unit} loads a model of the architecture {header.architecture}, whose rules for memory "
        "are not known here: it is foreseen as one that keeps keys and values of every layer.",
        hint="Compare with what llama-server needs, `kloros-infra placement verify`, before you rely on it.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def _says_too_little(instance: Instance, header: GgufHeader, lacks: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        code="KI408",
        summary="Header lacks what memory depends on",
        detail=f"The locked header of {instance.id.unit} ({header.architecture}) says nothing of "
        f"{_listed(lacks)}, without which its memory cannot be foreseen.",
        hint="Run `kloros-infra lock`, which reads the header anew; if that does not help, convert the model with a "
        "current llama.cpp.",
        address=address_of(instance),
    )


def _unknown_types(instance: Instance, types: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        code="KI409",
        summary="Unknown quantization type",
        detail=f"{instance.id.unit} has tensors of the type {_listed(types)}, which is not known here; their sizes "
        "are taken from the locked header as they stand there.",
        hint="Run `kloros-infra lock` with a version that knows the type, or use another quantization.",
        severity=Severity.WARNING,
        address=address_of(instance),
    )


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_SHOWN])
    return shown if len(words) <= _SHOWN else f"{shown} and {len(words) - _SHOWN} more"
