"""What the external gguf-tensor-overrider was asked for an instance, and what it answered: kept beside the lock.

The Spec classes are the file as written; `OverriderRecord` is the value that placement reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.lock import Sha256

ASKING_VERSION = 1
"""How an instance becomes a question; raised when the same instance is asked for in another way."""

# 41 kB for the 1131 tensors of a 235B; a text of this size has more tensors than any model.
_MOST_CHARACTERS = 2**22
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A card as the tool is shown it, with the share of its memory that may be filled."""

    name: str
    memory_mib: int
    ceiling: float


@dataclass(frozen=True, slots=True)
class OverriderQuestion:
    """Everything that an answer depends on.

    `facts_sha256` is of what the tool reads in a GGUF header; `context_tokens` are those of all slots.
    """

    facts_sha256: str
    cards: tuple[ShownCard, ...]
    context_tokens: int
    parallel: int
    cache_type_k: KvType
    cache_type_v: KvType
    micro_batch: int
    version: int = ASKING_VERSION

    def differences(self, other: OverriderQuestion) -> Iterator[tuple[str, str, str]]:
        """Name what is not alike, in words, with this value and the other's."""
        for field in fields(self):
            own, others = getattr(self, field.name), getattr(other, field.name)
            if own != others:
                yield field.name.replace("_", " "), _in_words(own), _in_words(others)


def _in_words(value: object) -> str:
    match value:
        case tuple():
            return ", ".join(f"{one.name} {one.memory_mib} MiB up to {one.ceiling:g}" for one in value) or "none"
        case str():
            return value[:12]
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class OverriderRecord:
    """One answer, as the tool printed it; `tool` is what it says of its own version."""

    question: OverriderQuestion
    tool: str
    output: str


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _CardSpec(_Spec):
    name: Annotated[str, Field(max_length=500)]
    memory_mib: NonNegativeInt
    ceiling: Annotated[float, Field(ge=0, le=1)]


class _QuestionSpec(_Spec):
    facts_sha256: Sha256
    cards: tuple[_CardSpec, ...]
    context_tokens: PositiveInt
    parallel: PositiveInt
    cache_type_k: KvType
    cache_type_v: KvType
    micro_batch: PositiveInt
    version: PositiveInt


class _RecordSpec(_Spec):
    version: Literal[1]
    question: _QuestionSpec
    tool: Annotated[str, Field(max_length=200)]
    output: Annotated[str, Field(max_length=_MOST_CHARACTERS)]


def record_to_json(record: OverriderRecord) -> str:
    """Write a record down."""
    return f"{json.dumps({'version': 1, **asdict(record)}, indent=1)}\n"


def record_from_json(text: str) -> OverriderRecord:
    """Read a record; raise ValueError with what is wrong and where."""
    try:
        spec = _RecordSpec.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:_SHOWN]
        raise ValueError(
            "; ".join(f"{'.'.join(map(str, one['loc'])) or 'text'}: {one['msg']}" for one in found)
        ) from error
    cards = tuple(ShownCard(**vars(card)) for card in spec.question.cards)
    return OverriderRecord(OverriderQuestion(**{**vars(spec.question), "cards": cards}), spec.tool, spec.output)
