"""The files beside the lock: what is written is what is read, and nonsense is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.header_json import ReadHeader, header_from_json, header_to_json, read_header
from kloros_infra.ir.gguf import (
    POOLING_TYPES,
    GgufHeader,
    LatentAttention,
    Recurrence,
    Tensor,
    TensorGroup,
    group_tensors,
)
from tests.factories import A_SHA256, a_gguf_header


@st.composite
def headers(draw: st.DrawFn) -> GgufHeader:
    """Draw headers whose facts are free and whose parts agree."""
    count = st.integers(0, 2**40)
    layers = draw(st.integers(1, 12))
    names = st.one_of(
        st.from_regex(r"[a-z_]{1,12}\.(weight|bias)", fullmatch=True),
        st.builds("blk.{}.{}".format, st.integers(0, layers - 1), st.sampled_from(["attn_q", "attn_v", "ffn_up"])),
    )
    rows = st.builds(
        Tensor,
        name=names,
        type=st.sampled_from(["F32", "Q4_0", "MXFP4"]),
        # Few shapes and sizes, so that some tensors are alike.
        shape=st.sampled_from([(1,), (2**20, 3), (1, 2, 3, 4)]),
        size_bytes=st.sampled_from([0, 2**40]),
    )
    table = draw(st.lists(rows, min_size=1, max_size=20, unique_by=lambda tensor: tensor.name))
    return replace(
        a_gguf_header(layers=layers),
        head_count_kv=tuple(draw(st.lists(count, min_size=layers, max_size=layers))),
        sliding_window=draw(count),
        chat_template_sha256=draw(st.sampled_from([None, A_SHA256])),
        chat_template_name=draw(st.sampled_from([None, "chatml", "mistral-v3"])),
        tokenizer_model=draw(st.sampled_from([None, "gpt2"])),
        tokenizer_pre=draw(st.sampled_from([None, "llama-bpe"])),
        pooling_type=draw(st.sampled_from([None, *POOLING_TYPES])),
        tensors=group_tensors(table),
        sliding_layers=tuple(sorted(draw(st.sets(st.integers(0, layers - 1))))),
        sliding_key_length=draw(count),
        proposing_layers=draw(st.integers(0, 3)),
        borrowing_layers=draw(st.integers(0, 3)),
        latent=draw(st.none() | st.builds(LatentAttention, POSITIVE, count, POSITIVE, POSITIVE)),
        recurrence=draw(st.none() | st.builds(Recurrence, POSITIVE, count, count, wkv_head_size=count)),
    )


POSITIVE = st.integers(1, 2**20)


@given(headers())
def test_what_is_written_is_what_is_read(header: GgufHeader) -> None:
    assert header_from_json(header_to_json(header)) == header


def test_a_projector_has_no_layers() -> None:
    projector = replace(
        a_gguf_header(), architecture="clip", layer_count=0, embedding_length=0, head_count_kv=(), has_vision=True
    )
    projector = replace(projector, tensors=(TensorGroup("v.blk.0.attn_q.weight", "F16", (8, 8), 128),))

    assert header_from_json(header_to_json(projector)) == projector


def test_headers_of_earlier_versions_are_read() -> None:
    header = a_gguf_header()
    facts = json.loads(header_to_json(header))
    for key in ("chat_template_name", "tokenizer_model", "tokenizer_pre", "pooling_type", "has_vision", "has_audio"):
        del facts[key]

    assert header_from_json(json.dumps(facts)) == header


def test_a_line_for_each_tensor_is_read_alike() -> None:
    """So earlier versions wrote."""
    header = a_gguf_header(layers=3)
    facts = json.loads(header_to_json(header))
    rows = [row for row in facts["tensors"] if "blk.0-2." not in row[0]]
    rows += [[row[0].replace("0-2", str(n)), *row[1:]] for n in range(3) for row in facts["tensors"] if "0-2" in row[0]]
    assert len(rows) == 3 + 3 * 9
    facts["tensors"] = rows

    assert read_header(json.dumps(facts)) == ReadHeader(header, is_current=False)


def test_only_a_header_with_every_fact_is_current() -> None:
    facts = json.loads(header_to_json(a_gguf_header()))
    del facts["has_audio"]

    assert read_header(header_to_json(a_gguf_header())).is_current
    assert not read_header(json.dumps(facts)).is_current


def test_tensors_that_are_alike_share_a_line_and_the_text_ends_with_a_newline() -> None:
    header = a_gguf_header()
    rare = TensorGroup("blk.*.attn_v.bias", "F32", (8,), 32, (0, 1, 2, 5, 7, 8))

    text = header_to_json(replace(header, tensors=(*header.tensors, rare)))

    assert text.endswith("}\n")
    assert '["blk.0-1.attn_q.weight", "Q4_0", [64, 64], 2304],' in text.splitlines()
    assert '["blk.0-2,5,7-8.attn_v.bias", "F32", [8], 32]' in text.splitlines()


def a_change(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Build a change of one key."""
    return lambda data: data.update({key: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (a_change("layer_count", "2"), "layer_count: Input should be a valid integer"),
        (a_change("layer_count", -1), "layer_count"),
        (a_change("layer_count", 0), "layer_count and embedding_length of a model are at least 1"),
        (a_change("embedding_length", 0), "layer_count and embedding_length of a model are at least 1"),
        (a_change("pooling_type", "max"), "pooling_type"),
        (a_change("tokenizer_pre", "a b"), "tokenizer_pre"),
        (a_change("layer_count", 3), "head_count_kv has 2 entries for 3 layers"),
        (a_change("colour", "red"), "colour: Extra inputs are not permitted"),
        (a_change("tensors", []), "tensors"),
        (a_change("tensors", [["a b", "F32", [1], 4]]), "'a b' is not a tensor's name"),
        (a_change("tensors", [["blk.x.q", "F32", [1], 4]]), "'blk.x.q' is not a tensor's name"),
        (a_change("tensors", [["blk.2.q", "F32", [1], 4]]), "beyond the last of 2 layers"),
        (a_change("tensors", [["blk.0-2.q", "F32", [1], 4]]), "'blk.0-2.q' is beyond the last of 2 layers"),
        (a_change("tensors", [["blk.0-.q", "F32", [1], 4]]), "'blk.0-.q' is not a tensor's name"),
        (a_change("tensors", [["blk.*.q", "F32", [1], 4]]), "is not a tensor's name"),
        (a_change("tensors", [["blk.1,0.q", "F32", [1], 4]]), "the layers 1,0 do not ascend"),
        (a_change("tensors", [["blk.0,0.q", "F32", [1], 4]]), "the layers 0,0 do not ascend"),
        (a_change("tensors", [["blk.0,1-0.q", "F32", [1], 4]]), "the layers 0,1-0 do not ascend"),
        (a_change("tensors", [["q", "F32", [1], 4]] * 2), "'q' stands there twice"),
        (
            a_change("tensors", [["blk.0-1.q", "F32", [1], 4], ["blk.1.q", "F16", [2], 4]]),
            r"'blk\.\*\.q' stands there twice",
        ),
        (a_change("tensors", [["q", "F32", [0], 4]]), "tensors.0.2.0: Input should be greater than 0"),
        (a_change("tensors", [[1, 2, 3, 4]] * 2), "and 4 more"),
        (lambda data: data.pop("architecture"), "architecture: Field required"),
    ],
)
def test_nonsense_is_refused_in_words(change: Callable[[dict[str, Any]], Any], words: str) -> None:
    data = json.loads(header_to_json(a_gguf_header()))
    change(data)

    with pytest.raises(ValueError, match=words):
        header_from_json(json.dumps(data))


def test_a_short_text_that_stands_for_very_many_tensors_is_refused() -> None:
    data = json.loads(header_to_json(a_gguf_header()))
    data |= {"layer_count": 10_000, "head_count_kv": [1] * 10_000}
    data["tensors"] = [[f"blk.0-9999.{number}", "F32", [1], 4] for number in range(101)]

    with pytest.raises(ValueError, match="more than 1000000 tensors"):
        header_from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\ufeff{}"])
def test_text_that_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        header_from_json(text)


def test_facts_of_other_families_are_not_written() -> None:
    text = header_to_json(a_gguf_header())

    assert not {"latent", "recurrence", "sliding_layers", "proposing_layers"} & json.loads(text).keys()
    assert read_header(text).is_current


def test_of_a_group_of_facts_those_are_written_that_say_something() -> None:
    header = replace(a_gguf_header(), recurrence=Recurrence(short_conv_cache=3))

    assert json.loads(header_to_json(header))["recurrence"] == {"short_conv_cache": 3}


def test_a_header_that_an_earlier_version_read_too_little_of_is_not_current() -> None:
    latent = TensorGroup("blk.*.attn_k_b.weight", "Q8_0", (128, 512, 4), 272, (0, 1))
    header = replace(a_gguf_header(), tensors=(*a_gguf_header().tensors, latent))

    found = read_header(header_to_json(header))

    assert not found.is_current
    assert {group.name for group in found.header.tensors} == {group.name for group in header.tensors}


def test_windows_are_of_layers_that_there_are() -> None:
    with pytest.raises(ValueError, match="sliding_layers has 2, beyond the last of 2 layers"):
        header_from_json(header_to_json(replace(a_gguf_header(), sliding_layers=(0, 2))))
