"""GGUF files: read the header, never the weights.

A model is one file, or the parts of a split one, each with a header and a tensor table of its own
(llama.cpp, src/llama-model-loader.cpp).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from kloros_infra.adapters import weights_problems
from kloros_infra.adapters.gguf_facts import Facts, latent_attention, per_layer, recurrence
from kloros_infra.adapters.gguf_reader import MalformedError, RawHeader, UnsupportedError, read_raw
from kloros_infra.adapters.gguf_windows import windows_of
from kloros_infra.compiler.chat_template import chat_template_family
from kloros_infra.compiler.header_json import header_from_json, header_to_json
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import POOLING_TYPES, PROJECTOR_ARCHITECTURE, GgufHeader, Tensor, group_tensors
from kloros_infra.ir.split_gguf import stored_names
from kloros_infra.ir.weights_source import RangedFile

_MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A file of this machine, piece by piece."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        """Read a piece."""
        with self.path.open("rb") as stream:
            stream.seek(start)
            return stream.read(length)


def read_header(path: Path) -> GgufHeader:
    """Read a file's header, or that of the split GGUF it is a part of; raise ObstacleError where it cannot be used."""
    return read_header_of([DiskFile(Path(name)) for name in stored_names(str(path))], name=str(path))


def read_header_of(files: Sequence[RangedFile], *, name: str) -> GgufHeader:
    """Read the header of a model that is one file, or several in a split GGUF's order.

    `name` is what messages call the model. Raises ObstacleError when it is no whole GGUF, contradicts its files' names
    or lacks a fact.
    """
    raws: list[RawHeader] = []
    tensors: list[Tensor] = []
    for file in files:
        with _explained(file.name):
            raws.append(read_raw(file))
            tensors += _tensors(raws[-1], file.size_bytes)
    _check_split(raws, files, name)
    with _explained(name):
        header = _to_header(Facts(raws[0], name), tuple(tensors))
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
    except UnsupportedError as error:
        raise ObstacleError([weights_problems.unsupported_gguf(name, _one_line(error))]) from error
    except ValueError as error:
        raise ObstacleError([weights_problems.not_a_gguf(name, _one_line(error))]) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _tensors(raw: RawHeader, size_bytes: int) -> Iterator[Tensor]:
    for row in raw.rows:
        try:
            kind = GGMLQuantizationType(row.type_number)
        except ValueError as error:
            raise UnsupportedError(f"tensor {row.name} is of the unknown type {row.type_number}") from error
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if row.shape[0] % block:
            raise MalformedError(f"tensor {row.name} is not made of whole blocks")
        tensor_bytes = prod(row.shape) // block * block_bytes
        if raw.data_start + row.offset + tensor_bytes > size_bytes:
            raise MalformedError("it ends too early")
        yield Tensor(row.name, kind.name, row.shape, tensor_bytes)


def _check_split(raws: Sequence[RawHeader], files: Sequence[RangedFile], name: str) -> None:
    """Compare what the parts say of themselves with their names, as llama.cpp does when it loads them."""
    total = len(raws)
    for number, (raw, file) in enumerate(zip(raws, files, strict=True)):
        count, own = raw.values.get("split.count", 1), raw.values.get("split.no", 0)
        if count != total and (count, total) != (0, 1):
            raise _split_problem(file.name, f"it says that it is one of {count} parts, and not of {total}")
        if own != number:
            raise _split_problem(file.name, f"it says that it is part {own}, counting from 0, and not {number}")
    found = sum(len(raw.rows) for raw in raws)
    expected = raws[0].values.get("split.tensors.count", found)
    if total > 1 and expected != found:
        raise _split_problem(name, f"its parts have {found} tensors, and the first speaks of {expected}")


def _split_problem(name: str, reason: str) -> ObstacleError:
    return ObstacleError([weights_problems.split_gguf(name, reason)])


def _to_header(facts: Facts, tensors: tuple[Tensor, ...]) -> GgufHeader:
    if facts.architecture == PROJECTOR_ARCHITECTURE:
        return _projector(facts, tensors)
    layers = facts.number("block_count")
    if layers > _MOST_LAYERS:
        raise MalformedError(f"it claims {layers} layers")
    embedding = facts.number("embedding_length")
    heads = facts.number("attention.head_count")
    # llama-hparams.cpp: a head is as wide as the embedding allows unless the file says otherwise.
    head_length = embedding // heads if heads else 0
    heads_per_layer = facts.numbers("attention.head_count_kv") or facts.numbers("attention.head_count")
    template = facts.text("tokenizer.chat_template")
    header = GgufHeader(
        architecture=facts.architecture,
        layer_count=layers,
        embedding_length=embedding,
        feed_forward_length=facts.number("feed_forward_length", 0),
        head_count=heads,
        head_count_kv=per_layer(heads_per_layer, layers),
        key_length=facts.number("attention.key_length", head_length),
        value_length=facts.number("attention.value_length", head_length),
        context_length=facts.number("context_length"),
        vocabulary_size=_vocabulary_size(facts, tensors),
        tensors=group_tensors(tensors),
        expert_count=facts.number("expert_count", 0),
        expert_used_count=facts.number("expert_used_count", 0),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
        chat_template_name=chat_template_family(template) if template else None,
        tokenizer_model=facts.word("tokenizer.ggml.model"),
        tokenizer_pre=facts.word("tokenizer.ggml.pre"),
        pooling_type=_pooling_type(facts),
    )
    return _with_family(header, facts)


def _with_family(header: GgufHeader, facts: Facts) -> GgufHeader:
    """Add what only some families say: windows, layers that propose or borrow, latent attention, recurrence."""
    layers = header.layer_count
    windows = windows_of(facts, layers)
    return replace(
        header,
        sliding_window=windows.length,
        sliding_window_pattern=windows.period,
        sliding_layers=windows.layers,
        sliding_key_length=facts.number("attention.key_length_swa", 0),
        sliding_value_length=facts.number("attention.value_length_swa", 0),
        proposing_layers=facts.number("nextn_predict_layers", 0),
        borrowing_layers=_borrowing_layers(facts, layers),
        latent=latent_attention(facts),
        recurrence=recurrence(facts),
    )


def _borrowing_layers(facts: Facts, layers: int) -> int:
    if facts.architecture == "gemma3n":
        # src/models/gemma3n.cpp, n_layer_kv_from_start: no key says it.
        return max(0, layers - 20)
    return facts.number("attention.shared_kv_layers", 0)


def _projector(facts: Facts, tensors: tuple[Tensor, ...]) -> GgufHeader:
    """Keep what a projector's header has to say: its tensors, and what it can take (tools/mtmd/clip-impl.h)."""
    return GgufHeader(
        architecture=facts.architecture,
        layer_count=0,
        embedding_length=0,
        feed_forward_length=0,
        head_count=0,
        head_count_kv=(),
        key_length=0,
        value_length=0,
        context_length=0,
        vocabulary_size=0,
        tensors=group_tensors(tensors),
        has_vision=bool(facts.number("has_vision_encoder", 0)),
        has_audio=bool(facts.number("has_audio_encoder", 0)),
    )


def _pooling_type(facts: Facts) -> str | None:
    found = facts.numbers("pooling_type")
    return POOLING_TYPES[found[0]] if found and found[0] < len(POOLING_TYPES) else None


def _vocabulary_size(facts: Facts, tensors: tuple[Tensor, ...]) -> int:
    embedding = next((tensor.shape for tensor in tensors if tensor.name == "token_embd.weight"), ())
    # The embedding may be padded beyond the words, and the logits are as wide as it.
    return max(embedding[1] if len(embedding) == 2 else 0, facts.count("tokenizer.ggml.tokens"))
