"""Anchors, aliases and merge keys: what they give, where it stands, and what bounds them."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.source_builder import MAX_ANCHORS_COMPARED, MAX_DEPTH
from kloros_infra.diagnostics import Problems


def source(text: str) -> Source:
    found, told = read(text, file="m.yaml")
    assert told == ()
    assert found is not None
    return found


def problems(text: str) -> Problems:
    return read(text, file="m.yaml")[1]


def test_an_alias_repeats_a_value() -> None:
    found = source("a: &x 12\nb: *x\nc: &y [1, *x]\nd: {e: *y}\n")

    assert found.tree == {"a": 12, "b": 12, "c": [1, 12], "d": {"e": [1, 12]}}


def test_a_repeated_value_stands_where_it_is_written_and_its_key_where_that_is() -> None:
    found = source("a: &x 12\nb: *x\nc: &y\n  d: 1\ne: *y\n")

    assert str(found.span(("b",))) == "m.yaml:1:7"
    assert str(found.key_span(("b",))) == "m.yaml:2:1"
    assert found.written(("b",)) == "12"
    assert str(found.span(("e",))) == "m.yaml:5:1"
    assert str(found.span(("e", "d"))) == "m.yaml:4:6"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("- &x 1\n", "m.yaml:1:6"),
        ("- &x   [1]\n", "m.yaml:1:8"),
        ("- !!int &x 1\n", "m.yaml:1:12"),
        ("- &x # said below\n  1\n", "m.yaml:1:3"),
        ("- &x\n  a: 1\n", "m.yaml:1:3"),
        ("- &x 'a'\n", "m.yaml:1:6"),
    ],
)
def test_a_value_begins_after_its_anchor(text: str, place: str) -> None:
    found, _ = read(text, file="m.yaml")

    assert found is not None
    assert str(found.span((0,))) == place


def test_an_anchor_may_mark_a_key_and_an_alias_be_one() -> None:
    found = source("&x a: 1\nb: *x\nc: {*x : 2}\n")

    assert found.tree == {"a": 1, "b": "a", "c": {"a": 2}}


def test_a_name_may_be_given_anew() -> None:
    assert source("a: &x 1\nb: *x\nc: &x 2\nd: *x\n").tree == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_a_merge_key_takes_in_what_is_not_written_out() -> None:
    found = source("a: &x {one: 1, two: 2}\nb:\n  two: 3\n  <<: *x\n  three: 4\n")

    assert found.tree["b"] == {"two": 3, "one": 1, "three": 4}
    assert str(found.span(("b", "one"))) == "m.yaml:1:13"
    assert str(found.key_span(("b", "one"))) == "m.yaml:1:8"
    assert str(found.span(("b", "two"))) == "m.yaml:3:8"


def test_what_is_written_after_a_merge_key_wins_and_is_not_written_twice() -> None:
    found = source("a: &x {one: 1, two: 2}\nb: {<<: *x, one: 3}\n")

    assert found.tree["b"] == {"one": 3, "two": 2}
    assert str(found.key_span(("b", "one"))) == "m.yaml:2:13"


def test_the_first_of_several_merged_mappings_wins() -> None:
    text = "- &x {one: 1}\n- &y {one: 2, two: 2}\n- <<: [*x, *y, {two: 3, three: 3}]\n"

    assert source(text).tree[2] == {"one": 1, "two": 2, "three": 3}


def test_a_mapping_may_be_merged_where_it_is_written() -> None:
    assert source("<<: {a: 1}\nb: 2\n").tree == {"a": 1, "b": 2}


def test_merged_mappings_may_be_merged_themselves() -> None:
    assert source("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n").tree["c"] == {"x": 1, "y": 2, "z": 3}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert source('"<<": 1\n').tree == {"<<": 1}


def test_a_merge_key_stands_once() -> None:
    (problem,) = problems("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n")

    assert (problem.code, str(problem.span)) == ("KI106", "m.yaml:4:3")
    assert "[*one, *other]" in problem.hint


@pytest.mark.parametrize("value", ["1", "[1]", "[[{a: 1}]]", "[{a: 1}, null]", "text"])
def test_only_mappings_can_be_merged(value: str) -> None:
    found, (problem,) = read(f"a:\n  b: 1\n  <<: {value}\n", file="m.yaml")

    assert (problem.code, str(problem.span)) == ("KI117", "m.yaml:3:3")
    assert found is not None
    assert found.tree["a"]["b"] == 1
    assert found.span(("a",)) in found.unread


@pytest.mark.parametrize(("text", "place"), [("<<: 1\n", "m.yaml:1:1"), ("- <<: 1\n", "m.yaml:1:3")])
def test_what_lacks_keys_for_a_merge_that_failed_is_known(text: str, place: str) -> None:
    found, _ = read(text, file="m.yaml")

    assert found is not None
    assert [str(span) for span in found.unread] == [place]


def test_an_unknown_anchor_is_told_with_the_likeliest() -> None:
    first, second, third = problems("a: &cards 1\nb: *card\nc: {<<: [*later]}\nd: &later {e: *zzz}\n")

    assert {problem.code for problem in (first, second, third)} == {"KI115"}
    assert [str(problem.span) for problem in (first, second, third)] == ["m.yaml:2:4", "m.yaml:3:10", "m.yaml:4:15"]
    assert first.hint == "Did you mean 'cards'?"
    assert second.hint == "&later comes only in line 4; move it above the alias."
    assert third.hint == "Known here: cards, later."


def test_a_place_without_value_is_known() -> None:
    found, _ = read("a: 1\nb: *x\n", file="m.yaml")

    assert found is not None
    assert found.tree == {"a": 1, "b": None}
    assert [str(span) for span in found.unread] == ["m.yaml:2:4"]


def test_a_file_of_one_unknown_alias_is_not_empty() -> None:
    assert [problem.code for problem in problems("*x")] == ["KI115"]


@pytest.mark.parametrize("text", ["a: &x [*x]\n", "a: &x {b: *x}\n", "&x a: &y {<<: *y}\n", "a: &x [1, &z [*x]]\n"])
def test_an_alias_within_itself_is_refused(text: str) -> None:
    (problem,) = problems(text)

    assert problem.code == "KI116"
    assert problem.span is not None
    assert text[problem.span.column - 1] == "*"


@pytest.mark.parametrize("length", [1, 100_000])
def test_aliases_of_aliases_cost_no_more_than_they_are_allowed(length: int) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    text = f"a0: &a0 {'x' * length}\n{levels}"
    tracemalloc.start()
    begin = time.process_time()

    (problem,) = problems(text)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert problem.code == "KI108"
    assert time.process_time() - begin < 2
    assert peak_bytes < 5 * 2**20


def test_aliases_of_aliases_nest_no_deeper_than_values() -> None:
    levels = "".join(f"- &a{n} [*a{n - 1}]\n" for n in range(1, MAX_DEPTH - 1))

    assert source(f"- &a0 [x]\n{levels}").tree
    (problem,) = problems(f"- &a0 [x]\n{levels}- [*a{MAX_DEPTH - 2}]\n")
    assert (problem.code, "nested" in problem.detail) == ("KI108", True)


def test_few_anchors_of_very_many_are_compared() -> None:
    begin = time.process_time()
    text = "".join(f"- &name{n} 1\n" for n in range(20 * MAX_ANCHORS_COMPARED)) + "- *nam\n" * 50

    assert {problem.code for problem in problems(text)} == {"KI115"}
    assert time.process_time() - begin < 20


LEAVES = st.none() | st.integers(0, 9) | st.text("ab", max_size=2)
SHARED = st.lists(st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3), min_size=1, max_size=3)


@given(SHARED, st.data())
def test_what_another_writer_repeats_by_aliases_is_read_back(
    shared: list[dict[str, object]], data: st.DataObject
) -> None:
    tree = [data.draw(st.sampled_from(shared)) for _ in range(4)] + [shared]
    text = yaml.safe_dump(tree)

    assert source(text).tree == tree


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=3), min_size=1, max_size=3))
def test_merging_means_what_it_means_to_pyyaml(mappings: list[dict[str, int]]) -> None:
    anchors = "".join(
        f"- &m{n} {{{', '.join(f'{k}: {v}' for k, v in one.items())}}}\n" for n, one in enumerate(mappings)
    )
    text = f"{anchors}- <<: [{', '.join(f'*m{n}' for n in range(len(mappings)))}]\n  a: 10\n"

    assert source(text).tree == yaml.safe_load(text)
