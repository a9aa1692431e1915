"""GGUF files: read the header, never the weights."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader

from kloros_infra.adapters import weights_problems
from kloros_infra.compiler.header_json import header_from_json, header_to_json
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import GgufHeader, Tensor

# Values read one by one before a header counts as nonsense. A vocabulary of 262 144 words takes two million.
_MOST_READS = 20_000_000
_MOST_LAYERS = 10_000

# Layers in a period of sliding windows where the file does not say (llama.cpp, src/models/*.cpp, set_swa_pattern).
_WINDOW_PERIODS = {"cohere2": 4, "gemma2": 2, "gemma3": 6, "gpt-oss": 2}

# Everything that the reader raises on bytes that are no GGUF; numpy warns where a number overflows.
_MALFORMED = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError, MemoryError, Warning)


class _Reader(GGUFReader):
    """The package's reader, which stops at the end of the file and after a while.

    By itself it takes what lies behind the end for empty, and so walks an array of 2^60 values that are not there.
    """

    def __init__(self, path: Path) -> None:
        self._reads = 0
        super().__init__(path)

    def _get(self, offset: int, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise ValueError("its header does not end")
        found = super()._get(offset, dtype, count, override_order)
        if len(found) != int(count):
            raise ValueError("it ends too early")
        return found


def read_header(path: Path) -> GgufHeader:
    """Read a file's header; raise ObstacleError when it is no whole GGUF or lacks a fact."""
    return _header(path, str(path))


def read_header_of(head: bytes, *, size_bytes: int, name: str) -> GgufHeader:
    """Read the header of a file of which only the beginning is at hand; `name` is what messages call it.

    The rest is a hole in a temporary file: the reader wants to see that there is room for every tensor.
    """
    with tempfile.NamedTemporaryFile(prefix="kloros-", suffix=".gguf") as scratch:
        scratch.write(head)
        scratch.flush()
        os.truncate(scratch.fileno(), size_bytes)
        return _header(Path(scratch.name), name)


def _header(path: Path, name: str) -> GgufHeader:
    with _explained(name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader = _Reader(path)
        facts = _Facts(reader, name)
        shards = facts.number("split.count", 0)
        if shards > 1:
            raise ObstacleError([weights_problems.split_gguf(name, shards)])
        header = _to_header(facts, tuple(_tensors(reader)))
    try:
        # What cannot be read back from the lock must not get into it.
        return header_from_json(header_to_json(header))
    except ValueError as error:
        raise ObstacleError([weights_problems.header_incomplete(name, _one_line(error))]) from error


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ObstacleError([weights_problems.not_a_gguf(name, f"it cannot be read: {reason}")]) from error
    except _MALFORMED as error:
        raise ObstacleError([weights_problems.not_a_gguf(name, _one_line(error))]) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _tensors(reader: GGUFReader) -> Iterator[Tensor]:
    for found in reader.tensors:
        kind = GGMLQuantizationType(found.tensor_type)
        shape = tuple(int(extent) for extent in found.shape)
        values = 1
        for extent in shape:
            values *= extent
        block, size = GGML_QUANT_SIZES[kind]
        # The reader multiplies in 64 bits; what overflows there does not here.
        if values // block * size != int(found.n_bytes):
            raise ValueError(f"tensor {found.name} is larger than any file")
        yield Tensor(found.name, kind.name, shape, int(found.n_bytes))


class _Facts:
    """A header's keys, by name: those of the architecture without its prefix."""

    def __init__(self, reader: GGUFReader, name: str) -> None:
        self._fields = reader.fields
        self._name = name
        self.architecture = self.text("general.architecture") or ""
        if not self.architecture:
            raise self._lacks("general.architecture")

    def text(self, key: str) -> str | None:
        """Give a text, None where there is none."""
        value = self._value(key)
        return value if isinstance(value, str) else None

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
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(one, int) and one >= 0 for one in values):
            raise ValueError(f"{key} is not a number")
        return tuple(int(one) for one in values)

    def count(self, key: str) -> int:
        """Give an array's length, 0 where it is absent."""
        field = self._fields.get(key)
        return len(field.data) if field is not None else 0

    def _value(self, key: str) -> Any:
        field = self._fields.get(key) or self._fields.get(f"{getattr(self, 'architecture', '')}.{key}")
        return field.contents() if field is not None else None

    def _lacks(self, key: str) -> ObstacleError:
        return ObstacleError([weights_problems.header_incomplete(self._name, f"it does not say {key}")])


def _to_header(facts: _Facts, tensors: tuple[Tensor, ...]) -> GgufHeader:
    layers = facts.number("block_count")
    if layers > _MOST_LAYERS:
        raise ValueError(f"it claims {layers} layers")
    embedding = facts.number("embedding_length")
    heads = facts.number("attention.head_count")
    # llama-hparams.cpp: a head is as wide as the embedding allows unless the file says otherwise.
    head_length = embedding // heads if heads else 0
    template = facts.text("tokenizer.chat_template")
    return GgufHeader(
        architecture=facts.architecture,
        layer_count=layers,
        embedding_length=embedding,
        feed_forward_length=facts.number("feed_forward_length", 0),
        head_count=heads,
        head_count_kv=_per_layer(facts.numbers("attention.head_count_kv") or (heads,), layers),
        key_length=facts.number("attention.key_length", head_length),
        value_length=facts.number("attention.value_length", head_length),
        context_length=facts.number("context_length"),
        vocabulary_size=_vocabulary_size(facts, tensors),
        tensors=tensors,
        expert_count=facts.number("expert_count", 0),
        expert_used_count=facts.number("expert_used_count", 0),
        sliding_window=facts.number("attention.sliding_window", 0),
        sliding_window_pattern=_window_period(facts, layers),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
    )


def _per_layer(numbers: tuple[int, ...], layers: int) -> tuple[int, ...]:
    return numbers * layers if len(numbers) == 1 else numbers


def _vocabulary_size(facts: _Facts, tensors: tuple[Tensor, ...]) -> int:
    embedding = next((tensor.shape for tensor in tensors if tensor.name == "token_embd.weight"), ())
    # The embedding may be padded beyond the words, and the logits are as wide as it.
    return max(embedding[1] if len(embedding) == 2 else 0, facts.count("tokenizer.ggml.tokens"))


def _window_period(facts: _Facts, layers: int) -> int:
    """Say how many layers make a period of which all but the last see a window only; 0 where none does."""
    pattern = facts.numbers("attention.sliding_window_pattern")
    if not pattern:
        return _WINDOW_PERIODS.get(facts.architecture, 0)
    if len(pattern) == 1:
        return pattern[0]
    slides = [bool(one) for one in _per_layer(pattern, layers)]
    periods = (period for period in range(2, layers + 1) if slides == [i % period < period - 1 for i in range(layers)])
    # A pattern without a period counts as no window: then too much memory is foreseen, never too little.
    return next(periods, 0)
