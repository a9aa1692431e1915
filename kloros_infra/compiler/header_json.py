"""GGUF headers as text: the files beside models.lock.yaml, one tensor a line so that a diff can be read."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from kloros_infra.ir.gguf import GgufHeader, Tensor
from kloros_infra.ir.lock import Sha256

# Letters that need no care in a pattern, an env file or a log line; a layer's number follows `blk.`.
_TENSOR_NAME = re.compile(r"blk\.[0-9]{1,5}\.[A-Za-z0-9_.-]+|(?!blk\.)[A-Za-z0-9_.-]+")
_SHOWN = 3

WORD_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
Row = tuple[str, Word, Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)], NonNegativeInt]


class _HeaderSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    architecture: Word
    layer_count: NonNegativeInt
    embedding_length: NonNegativeInt
    feed_forward_length: NonNegativeInt
    head_count: NonNegativeInt
    head_count_kv: tuple[NonNegativeInt, ...]
    key_length: NonNegativeInt
    value_length: NonNegativeInt
    context_length: NonNegativeInt
    vocabulary_size: NonNegativeInt
    expert_count: NonNegativeInt
    expert_used_count: NonNegativeInt
    sliding_window: NonNegativeInt
    sliding_window_pattern: NonNegativeInt
    chat_template_sha256: Sha256 | None
    # Headers that earlier versions wrote lack these.
    chat_template_name: Word | None = None
    tokenizer_model: Word | None = None
    tokenizer_pre: Word | None = None
    pooling_type: Literal["none", "mean", "cls", "last", "rank"] | None = None
    has_vision: bool = False
    has_audio: bool = False
    tensors: Annotated[tuple[Row, ...], Field(min_length=1)]


def header_to_json(header: GgufHeader) -> str:
    """Write a header down: the facts first, then the tensor table."""
    facts = {field.name: getattr(header, field.name) for field in fields(header) if field.name != "tensors"}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in facts.items()]
    rows = [json.dumps([t.name, t.type, t.shape, t.size_bytes]) for t in header.tensors]
    return "\n".join(["{", *lines, '"tensors": [', ",\n".join(rows), "]", "}", ""])


def header_from_json(text: str) -> GgufHeader:
    """Read a header; raise ValueError with what is wrong and where."""
    try:
        spec = _HeaderSpec.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from error
    tensors = tuple(Tensor(name, type_, shape, size) for name, type_, shape, size in spec.tensors)
    header = GgufHeader(**{**spec.model_dump(), "tensors": tensors})
    wrong = _contradiction(header)
    if wrong:
        raise ValueError(wrong)
    return header


def is_current(text: str) -> bool:
    """Say whether a header that can be read has every fact that this version writes."""
    return set(json.loads(text)) >= set(_HeaderSpec.model_fields)


def _contradiction(header: GgufHeader) -> str | None:
    if not header.is_projector and not (header.layer_count and header.embedding_length):
        return "layer_count and embedding_length of a model are at least 1"
    if len(header.head_count_kv) != header.layer_count:
        return f"head_count_kv has {len(header.head_count_kv)} entries for {header.layer_count} layers"
    seen: set[str] = set()
    for tensor in header.tensors:
        wrong = _wrong_name(tensor, header.layer_count, seen)
        if wrong:
            return wrong
        seen.add(tensor.name)
    return None


def _wrong_name(tensor: Tensor, layer_count: int, seen: set[str]) -> str | None:
    if not _TENSOR_NAME.fullmatch(tensor.name):
        return f"{tensor.name!r} is not a tensor's name"
    if tensor.name in seen:
        return f"tensor {tensor.name!r} stands there twice"
    if tensor.layer is not None and tensor.layer >= layer_count:
        return f"tensor {tensor.name!r} is beyond the last of {layer_count} layers"
    return None


def _in_words(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    words = [f"{'.'.join(map(str, problem['loc'])) or 'text'}: {problem['msg']}" for problem in found[:_SHOWN]]
    return "; ".join(words if len(found) <= _SHOWN else [*words, f"and {len(found) - _SHOWN} more"])
