"""Names of split GGUFs, and where the store keeps them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import mmproj_key, weights_key
from kloros_infra.ir.split_gguf import SplitName, set_sha256, split_name, split_set, stored_names
from tests.factories import some_weights

ALL = tuple(f"hf://o/r/m-0000{number}-of-00003.gguf" for number in (1, 2, 3))


@given(st.text(min_size=1), st.integers(1, 99_999), st.integers(0, 99_999))
def test_a_name_that_is_written_is_read(prefix: str, number: int, more: int) -> None:
    name = SplitName(prefix, number, min(number + more, 99_999))

    assert split_name(str(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "m.gguf",
        "m-1-of-3.gguf",
        "-00001-of-00003.gguf",
        "m-00000-of-00003.gguf",
        "m-00004-of-00003.gguf",
        "m-00001-of-00003.gguf.part0",
        "m-00001-of-00003.GGUF",
    ],
)
def test_other_names_are_no_parts(name: str) -> None:
    assert split_name(name) is None
    assert split_set([name]) is None
    assert stored_names(name) == (name,)


@pytest.mark.parametrize("names", [ALL[:1], ALL[2:], ALL, ALL[::-1], (ALL[1], ALL[1])])
def test_some_parts_stand_for_the_set(names: tuple[str, ...]) -> None:
    assert split_set(names) == ALL


@pytest.mark.parametrize(
    "other", ["hf://o/r/n-00001-of-00003.gguf", "hf://o/r/m-00001-of-00002.gguf", "hf://o/r/m.gguf"]
)
def test_parts_of_different_sets_are_no_set(other: str) -> None:
    assert split_set((*ALL, other)) is None
    assert split_set(()) is None


def test_the_store_keeps_parts_apart_and_under_names_that_belong_together() -> None:
    layout = Layout()

    assert layout.weights_path("m", "1") == "var/lib/llama-models/m/1/model.gguf"
    first = layout.weights_path("m", "1", parts=2)
    assert stored_names(first) == (first, "var/lib/llama-models/m/1/model-00002-of-00002.gguf")
    assert layout.mmproj_path("m", "1") == "var/lib/llama-models/m/1/mmproj.gguf"


def test_an_entry_says_in_how_many_files_it_is_kept() -> None:
    assert some_weights(source=ALL[:1]).part_count == 3
    assert some_weights(source=("file:///a", "file:///b")).part_count == 1
    assert some_weights(source=("file:///m-00001-of-00001.gguf",)).part_count == 1


def test_a_set_is_known_by_its_parts_checksums_in_order() -> None:
    assert set_sha256(["aa", "bb"]) == hashlib.sha256(b"aa\nbb\n").hexdigest()
    assert set_sha256(["aa", "bb"]) != set_sha256(["bb", "aa"])


def test_a_projector_s_entry_sorts_behind_its_model_s() -> None:
    assert sorted([mmproj_key("m", "1"), weights_key("m", "1")]) == ["m@1", "m@1+mmproj"]
