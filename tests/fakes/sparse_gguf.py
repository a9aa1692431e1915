"""GGUF files with true keys and a true tensor table, whose data is a hole: 125 GB that take a few kB on disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np

from kloros_infra.placement.block_sizes import tensor_bytes

Key = int | float | bool | str | list[int] | list[bool]
Row = tuple[str, tuple[int, ...], str]
"""A tensor's name, its shape in ggml order (fastest axis first) and its type."""

_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class SparseModel:
    """What a model's file says: keys without the architecture's prefix, and the tensor table."""

    architecture: str
    keys: Mapping[str, Key]
    rows: tuple[Row, ...]
    vocabulary: int
    general: Mapping[str, Key] = field(default_factory=dict)

    @property
    def weights_bytes(self) -> int:
        return sum(tensor_bytes(type_, shape) for _, shape, type_ in self.rows)


def write_sparse_gguf(model: SparseModel, path: Path) -> Path:
    """Write the file; it has no words, so that llama-server can measure and load it, but not be asked by a text."""
    writer = gguf.GGUFWriter(path, model.architecture)
    for key, value in model.keys.items():
        _add(writer, f"{model.architecture}.{key}", value)
    for key, value in model.general.items():
        _add(writer, key, value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    writer.add_uint32(f"{model.architecture}.vocab_size", model.vocabulary)
    for name, shape, type_ in model.rows:
        kind = gguf.GGMLQuantizationType[type_]
        size_bytes = tensor_bytes(type_, shape)
        writer.add_tensor_info(name, tuple(reversed(shape)), np.dtype(np.float32), size_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    data_bytes = sum(_padded(tensor_bytes(type_, shape)) for _, shape, type_ in model.rows)
    os.truncate(path, _padded(path.stat().st_size) + data_bytes)
    return path


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT


def _add(writer: gguf.GGUFWriter, key: str, value: Key) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case str():
            writer.add_string(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case list():
            writer.add_array(key, value)
