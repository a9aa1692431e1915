"""Headers of real GGUF files, and of files that are none."""

from __future__ import annotations

import hashlib
import struct
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.gguf_file import read_header, read_header_of
from kloros_infra.adapters.gguf_reader import FIRST_FETCH_BYTES, MAX_HEADER_BYTES
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.gguf import GgufHeader, LatentAttention, Recurrence, TensorGroup
from kloros_infra.placement.architectures import lacking_facts
from kloros_infra.placement.memory import slides
from tests.fakes.gguf_files import Extra, SplitClaims, split_gguf, write_gguf, write_projector
from tests.fakes.sparse_gguf import SparseModel, write_sparse_gguf
from tests.sparse_layers import Size
from tests.sparse_models import FAMILIES

GEMMA3N = Size(30, 64, 128, 4, 2, 16, 32).keys(attention__sliding_window=512)


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
    assert header.tensors == (
        TensorGroup("token_embd.weight", "F32", (64, 48), 64 * 48 * 4),
        TensorGroup("output.weight", "Q4_0", (64, 32), 32 * 64 // 32 * 18),
        TensorGroup("blk.*.attn_q.weight", "F16", (64, 64), 64 * 64 * 2, (0, 1, 2)),
    )
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
    ("architecture", "pattern", "period", "layers"),
    [
        ("gemma3", None, 6, ()),
        ("llama", None, 0, ()),
        ("llama", [4], 4, ()),
        ("llama", [False, True, True], 0, (1, 2)),
        ("llama", [True, True, True], 0, (0, 1, 2)),
        ("llama", [True, False, True], 2, ()),
        ("llama", [True, False, False], 0, (0,)),
        ("llama", [False, False, False], 0, ()),
        # Blocks that propose tokens may have no entry of their own, or more than there are layers.
        ("llama", [True, False, True, True], 2, ()),
        # It is the first of each period that sees everything.
        ("cohere2moe", None, 0, (1, 2)),
        ("lfm2", None, 0, (0, 1, 2)),
        ("phi3", None, 0, ()),
    ],
)
def test_layers_with_a_window(
    tmp_path: Path, architecture: str, pattern: list[int] | None, period: int, layers: tuple[int, ...]
) -> None:
    extras: list[Extra] = [lambda w: w.add_sliding_window(512)]
    if pattern is not None:
        key = f"{architecture}.attention.sliding_window_pattern"
        extras.append(lambda w: w.add_array(key, pattern) if len(pattern) > 1 else w.add_uint32(key, pattern[0]))

    header = header_with(tmp_path, *extras, architecture=architecture)

    assert (header.sliding_window_pattern, header.sliding_layers) == (period, layers)
    assert header.sliding_window == (0 if architecture == "phi3" else 512)


@pytest.mark.parametrize(
    ("architecture", "said", "window"),
    [
        ("gemma2", None, 4096),
        ("gemma2", 2048, 2048),
        ("gemma3", None, 0),
        # Llama 4 cuts its context in pieces of 8192, unless the file says that it does not.
        ("llama4", 99, 8192),
        ("llama4", None, 8192),
        ("llama4", 0, 0),
        # The large one has windows.
        ("exaone4", 4096, 0),
    ],
)
def test_how_long_a_window_is(tmp_path: Path, architecture: str, said: int | None, window: int) -> None:
    extras: list[Extra] = [] if said is None else [lambda w: w.add_sliding_window(said)]

    assert header_with(tmp_path, *extras, architecture=architecture).sliding_window == window


def test_a_pattern_of_windows_is_for_all_layers(tmp_path: Path) -> None:
    key = "llama.attention.sliding_window_pattern"
    path = write_gguf(tmp_path / "a.gguf", lambda w: w.add_sliding_window(8), lambda w: w.add_array(key, [True, False]))

    assert code_of(path) == "KI313"


def test_compressed_keys_and_values_are_read(tmp_path: Path) -> None:
    lengths: list[Extra] = [lambda w: w.add_key_length_mla(192), lambda w: w.add_value_length_mla(128)]
    header = header_with(
        tmp_path, *lengths, lambda w: w.add_kv_lora_rank(512), lambda w: w.add_rope_dimension_count(64)
    )

    assert header.latent == LatentAttention(rank=512, rope_length=64, key_length=192, value_length=128)
    # Older files keep keys and values as they are.
    assert header_with(tmp_path, lambda w: w.add_kv_lora_rank(512)).latent is None


def test_what_layers_remember_is_read(tmp_path: Path) -> None:
    header = header_with(
        tmp_path,
        lambda w: w.add_ssm_conv_kernel(4),
        lambda w: w.add_ssm_inner_size(5120),
        lambda w: w.add_ssm_state_size(128),
        lambda w: w.add_ssm_time_step_rank(80),
        lambda w: w.add_ssm_group_count(1),
    )

    assert header.recurrence == Recurrence(4, 5120, 128, 1, 80)
    assert header_with(tmp_path).recurrence is None


@pytest.mark.parametrize(("said", "count"), [(None, 2), (1, 1)])
def test_a_rwkv_shifts_tokens(tmp_path: Path, said: int | None, count: int) -> None:
    extras: list[Extra] = [] if said is None else [lambda w: w.add_token_shift_count(said)]

    header = header_with(tmp_path, lambda w: w.add_wkv_head_size(64), *extras)

    assert header.recurrence == Recurrence(wkv_head_size=64, token_shift_count=count)


@pytest.mark.parametrize(("architecture", "borrowing"), [("gemma4", 2), ("gemma3n", 0)])
def test_layers_that_borrow_or_propose_are_counted(tmp_path: Path, architecture: str, borrowing: int) -> None:
    header = header_with(
        tmp_path,
        lambda w: w.add_uint32(f"{architecture}.attention.shared_kv_layers", 2),
        lambda w: w.add_uint32(f"{architecture}.nextn_predict_layers", 1),
        lambda w: w.add_uint32(f"{architecture}.attention.key_length_swa", 32),
        lambda w: w.add_uint32(f"{architecture}.attention.value_length_swa", 16),
        architecture=architecture,
    )

    assert (header.borrowing_layers, header.proposing_layers) == (borrowing, 1)
    assert (header.sliding_key_length, header.sliding_value_length) == (32, 16)


def test_a_gemma3n_borrows_from_its_twentieth_layer_on(tmp_path: Path) -> None:
    model = SparseModel("gemma3n", GEMMA3N, (("token_embd.weight", (64, 32), "F16"),), 32)

    assert read_header(write_sparse_gguf(model, tmp_path / "a.gguf")).borrowing_layers == 10


def test_keys_may_differ_by_layer_where_heads_do(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", lambda w: w.add_head_count([4, 0, 4]), without="attention.head_count")

    assert read_header(path).head_count_kv == (4, 0, 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_headers_of_published_models_say_all_that_memory_needs(family: str, tmp_path: Path) -> None:
    model = FAMILIES[family]()

    header = read_header(write_sparse_gguf(model, tmp_path / "a.gguf"))

    assert header.architecture == model.architecture
    assert header.weights_bytes == model.weights_bytes
    assert lacking_facts(header) == ()


def test_a_chat_template_is_known_by_its_hash(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m }}{% endfor %}"

    header = header_with(tmp_path, lambda w: w.add_chat_template(template))

    assert header.chat_template_sha256 == hashlib.sha256(template.encode()).hexdigest()
    assert header.chat_template_name is None


def test_a_chat_template_of_a_known_family_is_named(tmp_path: Path) -> None:
    assert header_with(tmp_path, lambda w: w.add_chat_template("<|im_start|>")).chat_template_name == "chatml"


def test_the_tokenizer_and_the_pooling_are_named(tmp_path: Path) -> None:
    header = header_with(
        tmp_path,
        lambda w: w.add_tokenizer_model("gpt2"),
        lambda w: w.add_tokenizer_pre("qwen2"),
        lambda w: w.add_pooling_type(gguf.PoolingType.RANK),
    )

    assert (header.tokenizer_model, header.tokenizer_pre, header.pooling_type) == ("gpt2", "qwen2", "rank")


def test_what_is_no_name_is_left_out(tmp_path: Path) -> None:
    header = header_with(
        tmp_path, lambda w: w.add_tokenizer_pre("a b"), lambda w: w.add_uint32("llama.pooling_type", 99)
    )

    assert (header.tokenizer_model, header.tokenizer_pre, header.pooling_type) == (None, None, None)


def test_a_projector_has_its_tensors_and_what_it_takes(tmp_path: Path) -> None:
    header = read_header(write_projector(tmp_path / "mmproj.gguf"))

    assert header.is_projector
    assert (header.has_vision, header.has_audio) == (True, False)
    assert [(group.name, group.layers) for group in header.tensors] == [
        ("v.blk.0.attn_q.weight", None),
        ("mm.0.weight", None),
    ]
    assert not header_with(tmp_path).is_projector


@dataclass
class Memory:
    """A file in memory, which remembers what was read of it; only `held` bytes of it are there."""

    held: bytes
    size_bytes: int
    name: str = "a file"
    asked: list[tuple[int, int]] = field(default_factory=list)

    def read(self, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        return self.held[start : start + length]


def test_the_beginning_of_a_file_is_enough(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    whole = path.read_bytes()
    file = Memory(whole[:2048], len(whole))

    assert read_header_of([file], name="a file") == read_header(path)
    assert file.asked == [(0, len(whole))]


def test_a_long_header_is_fetched_in_growing_pieces(tmp_path: Path) -> None:
    words = 200_000
    path = write_gguf(tmp_path / "a.gguf", lambda w: w.add_token_merges([f"a long merge {n}" for n in range(words)]))
    file = Memory(path.read_bytes(), 10 * 2**30)

    assert read_header_of([file], name="a file").layer_count == 3
    mebi = FIRST_FETCH_BYTES
    assert file.asked == [(0, mebi), (mebi, mebi), (2 * mebi, 2 * mebi), (4 * mebi, 4 * mebi)]


def test_a_file_that_is_shorter_than_it_is_said_to_be_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "a.gguf").read_bytes()

    for file in (Memory(whole[:500], len(whole)), Memory(whole, len(whole) - 1024)):
        with pytest.raises(ObstacleError) as caught:
            read_header_of([file], name="part one")
        (problem,) = caught.value.problems
        assert (problem.code, problem.detail) == ("KI313", "a file: it ends too early.")


def test_a_header_without_end_is_given_up() -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q1sI", 1, b"a", 8)
    file = Memory(head + struct.pack("<Q", MAX_HEADER_BYTES), 2**40)

    with pytest.raises(ObstacleError, match="its header does not end"):
        read_header_of([file], name="a file")

    assert len(file.asked) == 1


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_a_split_set_has_the_header_of_the_whole(tmp_path: Path, parts: int) -> None:
    whole = write_gguf(tmp_path / "whole.gguf")

    files = split_gguf(whole, tmp_path / "m", parts)

    for file in files:
        assert read_header(file) == read_header(whole)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (SplitClaims(count=4), "00001-of-00003.gguf: it says that it is one of 4 parts, and not of 3"),
        (SplitClaims(first_number=1), "00001-of-00003.gguf: it says that it is part 1, counting from 0, and not 0"),
        (SplitClaims(tensors=9), "its parts have 5 tensors, and the first speaks of 9"),
    ],
)
def test_parts_that_contradict_their_names_are_refused(tmp_path: Path, claims: SplitClaims, words: str) -> None:
    files = split_gguf(write_gguf(tmp_path / "whole.gguf"), tmp_path / "m", 3, claims)

    with pytest.raises(ObstacleError) as caught:
        read_header(files[0])

    (problem,) = caught.value.problems
    assert problem.code == "KI315"
    assert words in problem.detail


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    first, *_ = split_gguf(write_gguf(tmp_path / "whole.gguf"), tmp_path / "m", 3)

    assert code_of(first.rename(tmp_path / "m.gguf")) == "KI315"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first, second, _ = split_gguf(write_gguf(tmp_path / "whole.gguf"), tmp_path / "m", 3)
    second.unlink()

    with pytest.raises(ObstacleError, match=str(second)):
        read_header(first)


def test_tensors_that_stand_in_two_parts_are_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf")
    first, second = split_gguf(whole, tmp_path / "m", 2, SplitClaims(tensors=6))
    one, _ = split_gguf(whole, tmp_path / "n", 2, SplitClaims(first_number=1))
    one.replace(second)

    assert code_of(first) == "KI314"


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "attention.head_count", "context_length"])
def test_a_fact_that_placement_needs_must_be_there(tmp_path: Path, key: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", without=key)

    assert code_of(path) == "KI314"


def test_facts_must_agree_with_each_other(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "a.gguf", lambda w: w.add_head_count_kv([1, 1]))) == "KI314"


def test_long_arrays_are_passed_over(tmp_path: Path) -> None:
    header = header_with(tmp_path, lambda w: w.add_token_scores([0.5] * 20_000), lambda w: w.add_expert_count(8))

    assert (header.expert_count, header.vocabulary_size) == (8, 48)


def test_more_layers_than_any_model_has_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", lambda w: w.add_block_count(10_001), without="block_count")

    assert code_of(path) == "KI313"


def test_a_number_must_be_one(tmp_path: Path) -> None:
    assert code_of(write_gguf(tmp_path / "a.gguf", lambda w: w.add_string("llama.expert_count", "many"))) == "KI313"


def a_key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def a_header(*keys: bytes, rows: bytes = b"", row_count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, row_count, len(keys)) + b"".join(keys) + rows


def a_row(name: bytes = b"t", dimensions: tuple[int, ...] = (32,), kind: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", kind, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it ends too early"),
        (b"GGUF", "it ends too early"),
        (b"PK\x03\x04" + bytes(100), "it does not begin with GGUF"),
        (a_header(), "it does not say general.architecture"),
        (a_header(a_key(b"a", 4, bytes(4)), a_key(b"a", 4, bytes(4))), "it says a twice"),
        (a_header(a_key(b"a", 13, b"")), "it has a value of type 13"),
        (a_header(a_key(b"\xff", 4, bytes(4))), "invalid start byte"),
        (a_header(a_key(b"general.alignment", 4, struct.pack("<I", 3))), "its alignment is not a power of two"),
        (a_header(a_key(b"general.alignment", 8, struct.pack("<Q", 0))), "its alignment is not a power of two"),
        (a_header(rows=a_row(b"t" * 64), row_count=1), "a name or text in it is too long"),
        (a_header(rows=a_row(dimensions=(1,) * 5), row_count=1), "tensor t has 5 dimensions"),
        (a_header(rows=a_row(kind=2, dimensions=(31,)), row_count=1), "tensor t is not made of whole blocks"),
        (a_header(rows=a_row(dimensions=(2**40, 2**40)), row_count=1), "it ends too early"),
        # Arrays in arrays in arrays.
        (a_header(a_key(b"a", 9, struct.pack("<IQ", 9, 1) * 3000)), "it has a value of type 9"),
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)

    with pytest.raises(ObstacleError) as caught:
        read_header(path)

    (problem,) = caught.value.problems
    assert problem.code == ("KI314" if "does not say" in words else "KI313")
    assert problem.detail.startswith(f"{path}: ")
    assert words in problem.detail


def test_a_tensor_without_dimensions_is_one_value(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    key = a_key(b"general.architecture", 8, struct.pack("<Q", 4) + b"clip")
    path.write_bytes(a_header(key, rows=a_row(dimensions=()), row_count=1) + bytes(100))

    assert read_header(path).tensors == (TensorGroup("t", "F32", (1,), 4),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF" + struct.pack("<I", 1), "it is of version 1"),
        (b"GGUF" + struct.pack("<I", 4), "it is of version 4"),
        (b"GGUF" + struct.pack("<I", 0), "it is of version 0"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "it is big-endian"),
        (b"GGUF" + struct.pack(">IQQ", 2, 0, 0), "it is big-endian"),
        (a_header(rows=a_row(b"blk.0.x", kind=777), row_count=1), "tensor blk.0.x is of the unknown type 777"),
    ],
)
def test_ggufs_of_another_kind_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)

    with pytest.raises(ObstacleError) as caught:
        read_header(path)

    (problem,) = caught.value.problems
    assert problem.code == "KI323"
    assert words in problem.detail


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    header = read_header(path)
    whole = bytearray(path.read_bytes())
    whole[4:8] = struct.pack("<I", 2)
    path.write_bytes(whole)

    assert read_header(path) == header


@pytest.mark.parametrize(
    "content",
    [
        b"GGUF" + struct.pack("<IQQ", 3, 2**62, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63),
        a_header(a_key(b"a", 9, struct.pack("<IQ", 0, 2**60))),
        a_header(a_key(b"a", 9, struct.pack("<IQ", 8, 2**60))),
        a_header(a_key(b"a", 8, struct.pack("<Q", 2**60))),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63),
    ],
    ids=["tensors", "keys", "numbers", "texts", "a text", "a name"],
)
def test_absurd_counts_take_neither_memory_nor_time(content: bytes) -> None:
    file = Memory(content + bytes(2**16), 2**62)
    tracemalloc.start()
    try:
        with pytest.raises(ObstacleError, match="KI313"):
            read_header_of([file], name="a file")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert len(file.asked) == 1


@pytest.mark.parametrize(
    "content",
    [
        a_header(*(a_key(b"%d" % number, 0, b"a") for number in range(10_001))),
        a_header(rows=b"".join(a_row(b"%x" % number) for number in range(100_001)), row_count=100_001),
        a_header(*(a_key(name, 9, struct.pack("<IQ", 8, 2_500_000) + bytes(20_000_000)) for name in (b"a", b"b"))),
    ],
    ids=["keys", "tensors", "texts"],
)
def test_more_than_any_model_has_is_refused_before_it_is_read(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ObstacleError, match=r"KI313.*it claims"):
        read_header_of([Memory(content, len(content))], name="a file")
    assert time.process_time() - began < 3


def test_many_layers_of_windows_take_no_time(tmp_path: Path) -> None:
    pattern = [True] * 9_999 + [False]
    began = time.process_time()
    read = header_with(
        tmp_path,
        lambda w: w.add_uint32("llama.block_count", 10_000),
        lambda w: w.add_sliding_window(512),
        lambda w: w.add_array("llama.attention.sliding_window_pattern", pattern),
    )
    assert read.sliding_window_pattern == 10_000
    assert time.process_time() - began < 3


def test_a_stranger_s_text_does_not_reach_the_terminal_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for content in (
        a_header(rows=a_row(b"\x1b[31mX", kind=99), row_count=1),
        a_header(*(a_key(b"\x1b]0;owned\x07", 0, b"a") for _ in range(2))),
        a_header(a_key(b"general.architecture", 8, struct.pack("<Q", 5) + b"\x1b[31m")),
        a_header(a_key(b"split.count", 8, struct.pack("<Q", 5) + b"\x1b[31m")),
    ):
        path.write_bytes(content + bytes(4096))
        with pytest.raises(ObstacleError) as caught:
            read_header(path)
        assert str(caught.value).isprintable()


def test_a_name_with_a_line_break_is_none(tmp_path: Path) -> None:
    assert header_with(tmp_path, lambda w: w.add_tokenizer_model("gpt2\n")).tokenizer_model is None


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
    tensors: tuple[TensorGroup, ...] = ()
    try:
        tensors = read_header(path).tensors
    except ObstacleError as error:
        codes = {problem.code for problem in error.problems}

    assert bool(tensors) != bool(codes)
    assert codes <= {"KI313", "KI314", "KI315", "KI323"}
