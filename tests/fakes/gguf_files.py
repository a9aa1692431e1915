"""Small GGUF files: whole ones, projectors, and sets split as llama-gguf-split does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

LAYERS = 3
Extra = Callable[[gguf.GGUFWriter], object]


def write_gguf(path: Path, *extras: Extra, architecture: str = "llama", without: str = "") -> Path:
    """Write a small but whole GGUF."""
    writer = gguf.GGUFWriter(path, architecture)
    facts: dict[str, Extra] = {
        "block_count": lambda w: w.add_block_count(LAYERS),
        "context_length": lambda w: w.add_context_length(4096),
        "embedding_length": lambda w: w.add_embedding_length(64),
        "feed_forward_length": lambda w: w.add_feed_forward_length(128),
        "attention.head_count": lambda w: w.add_head_count(4),
    }
    for key, add in facts.items():
        if key != without:
            add(writer)
    for extra in extras:
        extra(writer)
    writer.add_token_list([f"word{number}" for number in range(40)])
    writer.add_tensor("token_embd.weight", np.zeros((48, 64), dtype=np.float32))
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_q.weight", np.zeros((64, 64), dtype=np.float16))
    quantized = gguf.quantize(np.zeros((32, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("output.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    return _finish(writer, path)


def write_projector(path: Path) -> Path:
    """Write what stands beside a vision model."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_uint32("clip.vision.block_count", 2)
    writer.add_tensor("v.blk.0.attn_q.weight", np.zeros((8, 8), dtype=np.float16))
    writer.add_tensor("mm.0.weight", np.zeros((8, 8), dtype=np.float32))
    return _finish(writer, path)


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclass(frozen=True, slots=True)
class SplitClaims:
    """What the parts of a split say of themselves, where it is not the truth."""

    count: int | None = None
    first_number: int = 0
    tensors: int | None = None


def split_gguf(path: Path, prefix: Path, parts: int, claims: SplitClaims | None = None) -> list[Path]:
    """Cut a GGUF into a set: the first part has all keys, and each its share of the tensors (tools/gguf-split)."""
    claims = claims or SplitClaims()
    reader = gguf.GGUFReader(path)
    whole = path.read_bytes()
    version, _, key_count = struct.unpack_from("<IQQ", whole, 4)
    keys = whole[24 : reader.tensors[0].field.offset]
    share = -(-len(reader.tensors) // parts)
    written = []
    for number in range(parts):
        tensors = reader.tensors[number * share : (number + 1) * share]
        total = len(reader.tensors) if claims.tensors is None else claims.tensors
        own = _key("split.no", 2, struct.pack("<H", number + claims.first_number))
        own += _key("split.count", 2, struct.pack("<H", claims.count or parts))
        own += _key("split.tensors.count", 5, struct.pack("<i", total))
        count, all_keys = (key_count + 3, keys + own) if number == 0 else (3, own)
        head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), count) + all_keys
        file = prefix.with_name(f"{prefix.name}-{number + 1:05d}-of-{parts:05d}.gguf")
        file.write_bytes(_with_tensors(head, tensors))
        written.append(file)
    return written


def _key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def _with_tensors(head: bytes, tensors: list[gguf.ReaderTensor]) -> bytes:
    rows, data = b"", b""
    for tensor in tensors:
        shape = [int(extent) for extent in tensor.shape]
        rows += struct.pack("<Q", len(tensor.name)) + tensor.name.encode() + struct.pack("<I", len(shape))
        rows += struct.pack(f"<{len(shape)}QIQ", *shape, int(tensor.tensor_type), len(data))
        content = tensor.data.tobytes()
        data += content + bytes(-len(content) % 32)
    start = head + rows
    return start + bytes(-len(start) % 32) + data
