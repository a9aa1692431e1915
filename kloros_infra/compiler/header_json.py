"""GGUF headers as text: the files beside models.lock.yaml, for people to compare.

Tensors that differ in their layer alone share a line: `blk.0-2,5.attn_v.weight` stands for those of layers 0, 1, 2
and 5, and the size at the end is that of each. Earlier versions wrote a line for each tensor, which is read alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from kloros_infra.ir.gguf import (
    PROJECTOR_ARCHITECTURE,
    GgufHeader,
    LatentAttention,
    Recurrence,
    TensorGroup,
    merge_groups,
)
from kloros_infra.ir.lock import Sha256
from kloros_infra.placement.architectures import lacking_facts

# Letters that need no care in a pattern, an env file or a log line; layers follow `blk.`.
_LAYERS = r"[0-9]{1,4}(?:-[0-9]{1,4})?"
_IN_LAYERS = re.compile(rf"blk\.({_LAYERS}(?:,{_LAYERS})*)\.([A-Za-z0-9_.-]+)")
_OUTSIDE_LAYERS = re.compile(r"(?!blk\.)[A-Za-z0-9_.-]+")
# Far beyond any model; a short text could otherwise stand for more tensors than memory holds.
_MOST_TENSORS = 1_000_000
_SHOWN = 3

_IN_ONE_FAMILY = (
    "sliding_layers",
    "sliding_key_length",
    "sliding_value_length",
    "proposing_layers",
    "borrowing_layers",
)
# Facts of some families only: written where there is something to say, so that other headers stay as they were.
_RARE = frozenset({*_IN_ONE_FAMILY, "latent", "recurrence"})

WORD_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
Row = tuple[str, Word, Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=4)], NonNegativeInt]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _LatentSpec(_Spec):
    rank: PositiveInt
    rope_length: NonNegativeInt = 0
    key_length: PositiveInt
    value_length: PositiveInt


class _RecurrenceSpec(_Spec):
    conv_kernel: NonNegativeInt = 0
    inner_size: NonNegativeInt = 0
    state_size: NonNegativeInt = 0
    group_count: NonNegativeInt = 0
    time_step_rank: NonNegativeInt = 0
    kda_head_length: NonNegativeInt = 0
    short_conv_cache: NonNegativeInt = 0
    wkv_head_size: NonNegativeInt = 0
    token_shift_count: NonNegativeInt = 0


class _HeaderSpec(_Spec):
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
    # Most models lack these, and so do their headers.
    sliding_layers: tuple[NonNegativeInt, ...] = ()
    sliding_key_length: NonNegativeInt = 0
    sliding_value_length: NonNegativeInt = 0
    proposing_layers: NonNegativeInt = 0
    borrowing_layers: NonNegativeInt = 0
    latent: _LatentSpec | None = None
    recurrence: _RecurrenceSpec | None = None
    tensors: Annotated[tuple[Row, ...], Field(min_length=1)]


def header_to_json(header: GgufHeader) -> str:
    """Write a header down: the facts first, then the tensor table."""
    facts = {field.name: getattr(header, field.name) for field in fields(header) if field.name != "tensors"}
    facts = {name: _plain(value) for name, value in facts.items() if value or name not in _RARE}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in facts.items()]
    rows = [json.dumps([_name(group), group.type, group.shape, group.size_bytes]) for group in header.tensors]
    return "\n".join(["{", *lines, '"tensors": [', ",\n".join(rows), "]", "}", ""])


def _plain(value: object) -> object:
    """Write a group of facts as those of them that are not zero."""
    if isinstance(value, LatentAttention | Recurrence):
        return {name: number for name, number in asdict(value).items() if number}
    return value


def _name(group: TensorGroup) -> str:
    return group.name if group.layers is None else group.name.replace("*", ",".join(_ranges(group.layers)), 1)


def _ranges(layers: Iterable[int]) -> Iterator[str]:
    """Write layers that follow each other as the first and the last of them."""
    for _, run in groupby(enumerate(layers), lambda numbered: numbered[1] - numbered[0]):
        numbers = [layer for _, layer in run]
        yield str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


@dataclass(frozen=True, slots=True)
class ReadHeader:
    """A header, and whether its text has every fact in as few lines as this version writes them."""

    header: GgufHeader
    is_current: bool


def header_from_json(text: str) -> GgufHeader:
    """Read a header; raise ValueError with what is wrong and where."""
    return read_header(text).header


def read_header(text: str) -> ReadHeader:
    """Read a header, of this version or an earlier one; raise ValueError with what is wrong and where."""
    try:
        spec = _HeaderSpec.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_in_words(error)) from error
    if spec.architecture != PROJECTOR_ARCHITECTURE and not (spec.layer_count and spec.embedding_length):
        raise ValueError("layer_count and embedding_length of a model are at least 1")
    if len(spec.head_count_kv) != spec.layer_count:
        raise ValueError(f"head_count_kv has {len(spec.head_count_kv)} entries for {spec.layer_count} layers")
    if beyond := [layer for layer in spec.sliding_layers if layer >= spec.layer_count]:
        raise ValueError(f"sliding_layers has {beyond[0]}, beyond the last of {spec.layer_count} layers")
    header = _header(spec)
    has_every_fact = spec.model_fields_set >= _HeaderSpec.model_fields.keys() - _RARE and not lacking_facts(header)
    return ReadHeader(header, is_current=has_every_fact and len(header.tensors) == len(spec.tensors))


def _header(spec: _HeaderSpec) -> GgufHeader:
    latent = LatentAttention(**vars(spec.latent)) if spec.latent else None
    recurrence = Recurrence(**vars(spec.recurrence)) if spec.recurrence else None
    groups = merge_groups(_groups(spec))
    return GgufHeader(**{**vars(spec), "tensors": groups, "latent": latent, "recurrence": recurrence})


def _groups(spec: _HeaderSpec) -> Iterable[TensorGroup]:
    groups: list[TensorGroup] = []
    tensors = 0
    for row in spec.tensors:
        groups.append(_group(row, spec.layer_count))
        tensors += len(groups[-1].layers or (None,))
        if tensors > _MOST_TENSORS:
            raise ValueError(f"its lines stand for more than {_MOST_TENSORS} tensors")
    _check_names(groups)
    return groups


def _check_names(groups: Iterable[TensorGroup]) -> None:
    by_name: dict[str, list[TensorGroup]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    for name, same in by_name.items():
        if len(same) > 1:
            layers = [layer for group in same for layer in group.layers or (None,)]
            if len(set(layers)) < len(layers):
                raise ValueError(f"tensor {name!r} stands there twice")


def _group(row: Row, layer_count: int) -> TensorGroup:
    name, type_, shape, size_bytes = row
    if _OUTSIDE_LAYERS.fullmatch(name):
        return TensorGroup(name, type_, shape, size_bytes)
    found = _IN_LAYERS.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is not a tensor's name")
    layers = _written_out(found[1])
    if layers[-1] >= layer_count:
        raise ValueError(f"tensor {name!r} is beyond the last of {layer_count} layers")
    return TensorGroup(f"blk.*.{found[2]}", type_, shape, size_bytes, layers)


@lru_cache(maxsize=256)
def _written_out(ranges: str) -> tuple[int, ...]:
    """Read what `_ranges` writes; the headers of a family share their layers."""
    bounds = map(int, re.split("[,-]", ranges))
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise ValueError(f"the layers {ranges} do not ascend")
    pairs = (part.partition("-") for part in ranges.split(","))
    return tuple(layer for first, _, last in pairs for layer in range(int(first), int(last or first) + 1))


def _in_words(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    words = [f"{'.'.join(map(str, problem['loc'])) or 'text'}: {problem['msg']}" for problem in found[:_SHOWN]]
    return "; ".join(words if len(found) <= _SHOWN else [*words, f"and {len(found) - _SHOWN} more"])
