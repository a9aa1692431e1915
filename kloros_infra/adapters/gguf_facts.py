"""A GGUF header's keys, as llama.cpp reads them: by name, those of the architecture without its prefix."""

from __future__ import annotations

import re

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.gguf_reader import Array, MalformedError, RawHeader
from kloros_infra.compiler.header_json import WORD_PATTERN
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import LatentAttention, Recurrence


class Facts:
    """The keys of one header."""

    def __init__(self, raw: RawHeader, name: str) -> None:
        self._values = raw.values
        self._name = name
        self.architecture = self.text("general.architecture") or ""
        if not self.architecture:
            raise self._lacks("general.architecture")

    def text(self, key: str) -> str | None:
        """Give a text, None where there is none."""
        value = self._value(key)
        return value if isinstance(value, str) else None

    def word(self, key: str) -> str | None:
        """Give a text that is a name, None where there is none."""
        text = self.text(key)
        return text if text and re.fullmatch(WORD_PATTERN, text) else None

    def number(self, key: str, default: int | None = None) -> int:
        """Give a number, or the largest of one per layer; raise ObstacleError where it must be there."""
        found = self.numbers(key)
        if found:
            return max(found)
        if default is None:
            raise self._lacks(key)
        return default

    def numbers(self, key: str) -> tuple[int, ...]:
        """Give a number, or one per layer; none where the key is absent."""
        value = self._value(key)
        values = value.numbers if isinstance(value, Array) else () if value is None else (value,)
        numbers = tuple(int(one) for one in values if isinstance(one, int) and one >= 0)
        if len(numbers) != len(values):
            raise MalformedError(f"{key} is not a number")
        return numbers

    def count(self, key: str) -> int:
        """Give an array's length, 0 where it is absent."""
        value = self._value(key)
        return value.length if isinstance(value, Array) else 0

    def _value(self, key: str) -> str | int | float | Array | None:
        value = self._values.get(key)
        return self._values.get(f"{getattr(self, 'architecture', '')}.{key}") if value is None else value

    def _lacks(self, key: str) -> ObstacleError:
        return ObstacleError([weights_problems.header_incomplete(self._name, f"it does not say {key}")])


def latent_attention(facts: Facts) -> LatentAttention | None:
    """Read how keys and values are compressed; None where they are not (llama_hparams::is_mla)."""
    key_length, value_length = (facts.number(f"attention.{name}_length_mla", 0) for name in ("key", "value"))
    rank = facts.number("attention.kv_lora_rank", 0)
    if not (key_length and value_length and rank):
        return None
    return LatentAttention(rank, facts.number("rope.dimension_count", 0), key_length, value_length)


def recurrence(facts: Facts) -> Recurrence | None:
    """Read what layers keep that remember instead of looking back; None where there is nothing of the kind."""
    wkv_head_size = facts.number("wkv.head_size", 0)
    found = Recurrence(
        conv_kernel=facts.number("ssm.conv_kernel", 0),
        inner_size=facts.number("ssm.inner_size", 0),
        state_size=facts.number("ssm.state_size", 0),
        group_count=facts.number("ssm.group_count", 0),
        time_step_rank=facts.number("ssm.time_step_rank", 0),
        kda_head_length=facts.number("kda.head_dim", 0),
        short_conv_cache=facts.number("shortconv.l_cache", 0),
        wkv_head_size=wkv_head_size,
        # src/llama-hparams.h: 2 where the file does not say.
        token_shift_count=facts.number("token_shift_count", 2) if wkv_head_size else 0,
    )
    return None if found == Recurrence() else found


def per_layer(numbers: tuple[int, ...], layers: int) -> tuple[int, ...]:
    """Give each layer its number, where there may be one for all."""
    return numbers * layers if len(numbers) == 1 else numbers
