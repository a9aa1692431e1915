"""Headers of real GGUF files, and of files that are none."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.gguf_file import read_header, read_header_of
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import GgufHeader, Tensor
from kloros_infra.placement.memory import slides

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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def header_with(tmp_path: Path, *extras: Extra, architecture: str = "llama") -> GgufHeader:
    """Write a GGUF with more facts and read its header."""
    return read_header(write_gguf(tmp_path / "a.gguf", *extras, architecture=architecture))


def code_of(path: Path) -> str:
    """Read what cannot be read, and give the code of the one problem."""
    with pytest.raises(ObstacleError) as caught:
        read_header(path)
    (problem,) = caught.value.problems
    assert str(path) in problem.detail
    return problem.code


def test_facts_and_tensors_are_read(tmp_path: Path) -> None:
    header = header_with(tmp_path, lambda w: w.add_head_count_kv(2))

    assert (header.architecture, header.layer_count, header.embedding_length) == ("llama", 3, 64)
    assert (header.feed_forward_length, header.context_length, header.head_count) == (128, 4096, 4)
    assert header.head_count_kv == (2, 2, 2)
    assert (header.key_length, header.value_length) == (16, 16)
    assert (header.sliding_window, header.sliding_window_pattern) == (0, 0)
    assert (header.expert_count, header.expert_used_count) == (0, 0)
    assert header.vocabulary_size == 48
    assert [(t.name, t.type, t.shape, t.size_bytes) for t in header.tensors[:2]] == [
        ("token_embd.weight", "F32", (64, 48), 64 * 48 * 4),
        ("blk.0.attn_q.weight", "F16", (64, 64), 64 * 64 * 2),
    ]
    assert header.tensors[-1].size_bytes == 32 * 64 // 32 * 18
    assert header.chat_template_sha256 is None


def test_every_head_has_keys_and_values_where_nothing_else_is_said(tmp_path: Path) -> None:
    assert header_with(tmp_path).head_count_kv == (4, 4, 4)


def test_layers_may_differ(tmp_path: Path) -> None:
    header = header_with(
        tmp_path,
        lambda w: w.add_head_count_kv([0, 2, 1]),
        lambda w: w.add_array("llama.attention.sliding_window_pattern", [True, True, False]),
        lambda w: w.add_sliding_window(512),
        lambda w: w.add_key_length(32),
        lambda w: w.add_value_length(8),
        lambda w: w.add_expert_count(8),
        lambda w: w.add_expert_used_count(2),
    )

    assert header.head_count_kv == (0, 2, 1)
    assert [slides(header, layer) for layer in range(3)] == [True, True, False]
    assert (header.key_length, header.value_length, header.sliding_window) == (32, 8, 512)
    assert (header.expert_count, header.expert_used_count) == (8, 2)


@pytest.mark.parametrize(
    ("architecture", "pattern", "period"),
    [("gemma3", None, 6), ("llama", None, 0), ("llama", [4], 4), ("llama", [False, True, True], 0)],
)
def test_the_period_of_windows(tmp_path: Path, architecture: str, pattern: list[int] | None, period: int) -> None:
    extras: list[Extra] = []
    if pattern is not None:
        key = f"{architecture}.attention.sliding_window_pattern"
        extras.append(lambda w: w.add_array(key, pattern) if len(pattern) > 1 else w.add_uint32(key, pattern[0]))

    assert header_with(tmp_path, *extras, architecture=architecture).sliding_window_pattern == period


def test_a_chat_template_is_known_by_its_hash(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m }}{% endfor %}"

    header = header_with(tmp_path, lambda w: w.add_chat_template(template))

    assert header.chat_template_sha256 == hashlib.sha256(template.encode()).hexdigest()


def test_the_beginning_of_a_file_is_enough(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    whole = path.read_bytes()

    assert read_header_of(whole[:2048], size_bytes=len(whole), name="part one") == read_header(path)


def test_parts_that_are_missing_are_noticed(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "a.gguf").read_bytes()

    with pytest.raises(ObstacleError) as caught:
        read_header_of(whole[:2048], size_bytes=len(whole) - 1024, name="part one")

    (problem,) = caught.value.problems
    assert (problem.code, problem.detail) == ("KI313", "part one: it ends too early.")


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count", "context_length"])
def test_a_fact_that_placement_needs_must_be_there(tmp_path: Path, key: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", without=key)

    assert code_of(path) == "KI314"


def test_facts_must_agree_with_each_other(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "a.gguf", lambda w: w.add_head_count_kv([1, 1]))) == "KI314"


def test_a_number_must_be_one(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "a.gguf", lambda w: w.add_string("llama.expert_count", "many"))) == "KI313"


def test_one_of_several_files_is_refused(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "a.gguf", lambda w: w.add_uint16("split.count", 3))) == "KI315"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PK\x03\x04" + bytes(100),
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
        # An array of 2^60 bytes.
        b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 0, 2**60) + bytes(64),
        # Arrays in arrays in arrays.
        b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"a", 9) + struct.pack("<IQ", 9, 1) * 3000,
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)

    assert code_of(path) in {"KI313", "KI314"}


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    assert code_of(tmp_path / "absent.gguf") == "KI313"
    assert code_of(tmp_path) == "KI313"


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Write one GGUF to mutate."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "a.gguf", lambda w: w.add_head_count_kv([1, 2, 3])).read_bytes()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_it_crash(small_gguf: bytes, tmp_path: Path, data: st.DataObject) -> None:
    header_end = 1400
    damaged = bytearray(small_gguf)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(4, header_end))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        damaged[place : place + len(piece)] = piece
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged[: data.draw(st.integers(header_end, len(damaged)))])

    codes: set[str] = set()
    tensors: tuple[Tensor, ...] = ()
    try:
        tensors = read_header(path).tensors
    except ObstacleError as error:
        codes = {problem.code for problem in error.problems}

    assert bool(tensors) != bool(codes)
    assert codes <= {"KI313", "KI314", "KI315"}
