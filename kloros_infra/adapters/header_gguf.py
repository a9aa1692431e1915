"""A GGUF file that is a header and nothing else, from the facts in the lock.

A tool that looks at headers alone gives the same answer for it as for the weights, which need not be on this machine.
Keys that nobody asked for, such as a vocabulary, are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from kloros_infra.ir.gguf import GgufHeader, TensorGroup


def write_header(header: GgufHeader, path: Path) -> Path:
    """Write the file, its tensors layer by layer; raise ValueError for a type that the gguf package does not know."""
    writer = gguf.GGUFWriter(path, header.architecture)
    writer.add_block_count(header.layer_count)
    writer.add_context_length(header.context_length)
    writer.add_embedding_length(header.embedding_length)
    writer.add_head_count(header.head_count)
    # One figure for all layers: the mean, where they differ.
    writer.add_head_count_kv(-(-sum(header.head_count_kv) // max(1, header.layer_count)))
    for name, group in _rows(header):
        kind = _kind(group)
        writer.add_tensor_info(name, group.shape[::-1], np.dtype(np.float32), group.size_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return path


def _rows(header: GgufHeader) -> Iterator[tuple[str, TensorGroup]]:
    yield from ((group.name, group) for group in header.tensors if group.layers is None)
    for layer in range(header.layer_count):
        for group in header.tensors:
            if group.layers is not None and layer in group.layers:
                yield group.name.replace("*", str(layer), 1), group


def _kind(group: TensorGroup) -> gguf.GGMLQuantizationType:
    try:
        return gguf.GGMLQuantizationType[group.type]
    except KeyError as error:
        raise ValueError(f"nobody here knows the type {group.type} of {group.name}") from error
