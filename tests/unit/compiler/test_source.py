"""YAML text → plain values and their places."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source import Address, Source, read
from kloros_infra.compiler.source_builder import MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS, MAX_VALUES
from kloros_infra.compiler.source_values import plain_value
from kloros_infra.diagnostics import Problems


def source(text: str) -> Source:
    """Read a text that has no problems."""
    found, problems = read(text, file="m.yaml")
    assert problems == ()
    assert found is not None
    return found


def problems(text: str) -> Problems:
    """Read a text that is refused."""
    found, problems = read(text, file="m.yaml")
    assert found is None
    return problems


def codes(text: str) -> list[str]:
    return [problem.code for problem in problems(text)]


def test_quoted_and_block_scalars_are_text() -> None:
    assert source("""{a: "12", b: 'true', c: "~"}""").tree == {"a": "12", "b": "true", "c": "~"}
    assert source("a: |\n  12\n").tree == {"a": "12\n"}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert source("1: a\nno: b\ntrue: c\n").tree == {"1": "a", "no": "b", "true": "c"}


TEXT = """\
models:
  - id: small
    profiles:
      mid: {port: 8601}
    aliases: [a, b]
  - {version_id: other, port: 1}
  - plain
"""


@pytest.mark.parametrize(
    ("address", "span", "key_span", "path"),
    [
        ((), "m.yaml:1:1", "m.yaml:1:1", ""),
        (("models",), "m.yaml:1:1", "m.yaml:1:1", "models"),
        (("models", 0), "m.yaml:2:5", "m.yaml:2:5", "models.small"),
        (("models", 0, "id"), "m.yaml:2:9", "m.yaml:2:5", "models.small.id"),
        (("models", 0, "profiles"), "m.yaml:3:5", "m.yaml:3:5", "models.small.profiles"),
        (("models", 0, "profiles", "mid", "port"), "m.yaml:4:19", "m.yaml:4:13", "models.small.profiles.mid.port"),
        (("models", 0, "aliases", 1), "m.yaml:5:18", "m.yaml:5:18", "models.small.aliases.1"),
        (("models", 1), "m.yaml:6:5", "m.yaml:6:5", "models.other"),
        (("models", 2), "m.yaml:7:5", "m.yaml:7:5", "models.2"),
        (("models", 9, "id"), "m.yaml:1:1", "m.yaml:1:1", "models.9.id"),
        (("models", 0, "display_name"), "m.yaml:2:5", "m.yaml:2:5", "models.small.display_name"),
    ],
)
def test_every_address_has_a_place(address: Address, span: str, key_span: str, path: str) -> None:
    found = source(TEXT)

    assert str(found.span(address)) == span
    assert str(found.key_span(address)) == key_span
    assert found.path(address) == path


def test_a_scalar_is_remembered_as_written() -> None:
    found = source("a: 1.10\nb: [x]\n")

    assert found.written(("a",)) == "1.10"
    assert found.written(("b",)) is None
    assert found.written(("c",)) is None


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "---\n...\n", "~\n"])
def test_a_file_without_values_is_empty(text: str) -> None:
    assert codes(text) == ["KI110"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[\n"])
def test_nesting_without_end_is_refused_at_once(opening: str) -> None:
    begin = time.perf_counter()

    assert codes(opening * (MAX_BYTES // len(opening) // 4))[-1] == "KI108"
    assert time.perf_counter() - begin < 5


def test_nesting_is_allowed_up_to_the_limit() -> None:
    assert source("[" * MAX_DEPTH + "]" * MAX_DEPTH).tree
    assert codes("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == ["KI108"]


@pytest.mark.parametrize("text", ["#" * (MAX_BYTES + 1), "#" + "ä" * (MAX_BYTES // 2), "#" * (2 * MAX_BYTES)])
def test_a_large_file_is_refused_by_its_bytes(text: str) -> None:
    assert codes(text) == ["KI108"]


def test_a_file_of_very_many_values_is_refused() -> None:
    assert codes("[" + "1," * (MAX_VALUES + 1) + "]") == ["KI108"]


@pytest.mark.untraced
def test_a_file_of_very_many_empty_lists_is_refused() -> None:
    most = "- &thousand [" + "1," * 999 + "]\n" + "- *thousand\n" * (MAX_VALUES // 1000 - 2)

    assert source(f"{most}- [" + "[]," * 900 + "]\n").tree
    assert codes(f"{most}- [" + "[]," * 1000 + "]\n") == ["KI108"]


def test_all_unsupported_features_are_told_at_once() -> None:
    found, told = read("a: !!str 1\nb: !own [1]\n!k c: 1\n? [e]\n: 1\n", file="m.yaml")

    assert found is not None
    assert {problem.code for problem in told} == {"KI107"}
    assert [str(problem.span) for problem in told] == ["m.yaml:1:4", "m.yaml:2:4", "m.yaml:3:1", "m.yaml:4:3"]
    assert "!!str" in told[0].detail


def test_what_stands_at_a_refused_place_is_known_to_be_unread() -> None:
    found, _ = read("a: !!str 1\nb: !own [1]\n", file="m.yaml")

    assert found is not None
    assert {found.span(("a",)), found.span(("b",))} <= found.unread


def test_a_tag_that_says_nothing_is_none() -> None:
    assert source("a: ! 12\n").tree == {"a": 12}


def test_reading_ends_where_nothing_good_is_to_be_expected() -> None:
    found = codes("a: 1\n" * 10_000)

    assert found == ["KI106"] * MAX_PROBLEMS + ["KI119"]


def test_what_is_told_of_long_names_is_short() -> None:
    told = problems("!" + "a" * 100_000 + " 1\n...\nb")

    assert all(len(problem.detail) < 200 for problem in told)


@pytest.mark.parametrize("line", ["%YAML 1.2", "%YAML 1.2 # the newest"])
def test_the_directive_of_yaml_1_2_changes_nothing(line: str) -> None:
    found = source(f"# head\n{line}\n---\na: 1\n")

    assert found.tree == {"a": 1}
    assert str(found.span(("a",))) == "m.yaml:4:4"


@pytest.mark.parametrize("line", ["%YAML 1.1", "%YAML 1.3", "%TAG ! tag:x,2000:", "%FOO", "%", "%YAML 1." + "9" * 5000])
def test_other_directives_are_refused(line: str) -> None:
    (problem,) = problems(f"# head\n{line}\n---\na: 1\n")

    assert (problem.code, str(problem.span)) == ("KI107", "m.yaml:2:1")


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a: 1\n---\nb: 2\n", "KI107", "m.yaml:2:1"),
        ("a: 1\n...\n# c\n\n...\n%TAG ! x\n", "KI107", "m.yaml:6:1"),
        ("a: 1\n...\nb: 2\n", "KI101", "m.yaml:3:1"),
        ("{a: 1}\n}\n", "KI101", "m.yaml:2:1"),
    ],
)
def test_what_follows_the_value_is_refused(text: str, code: str, place: str) -> None:
    (problem,) = problems(text)

    assert (problem.code, str(problem.span)) == (code, place)


def test_the_end_may_be_marked() -> None:
    assert source("---\na: 1\n... # the end\n\n# really\n...\n").tree == {"a": 1}


@pytest.mark.untraced
@pytest.mark.parametrize("many", ["%TAG !{}! tag:x\n", "- &a{} 1\n", "- *a{}\n", "k{}: 1\n", "- !t{} 1\n"])
def test_time_grows_with_the_text_alone(many: str) -> None:
    text = "".join(many.format(number) for number in range(100_000))
    begin = time.process_time()

    read(text, file="m.yaml")
    read(f"a\n...\n{text}", file="m.yaml")
    assert time.process_time() - begin < 10


def test_a_leading_zero_is_warned_of() -> None:
    found, told = read("a: 010\nb: &x -017\nc: '010'\nd: 0\ne: 0.10\nf: 1010\ng: 0o10\n", file="m.yaml")

    assert found is not None
    assert found.tree == {"a": 10, "b": -17, "c": "010", "d": 0, "e": 0.1, "f": 1010, "g": 8}
    assert [(str(one.span), one.code, one.is_error) for one in told] == [
        ("m.yaml:1:4", "KI118", False),
        ("m.yaml:2:7", "KI118", False),
    ]


def test_a_key_written_twice_is_told_and_the_rest_is_read() -> None:
    found, told = read("a: 1\nb: 2\na: 3\n", file="m.yaml")

    assert found is not None
    assert [(problem.code, str(problem.span)) for problem in told] == [("KI106", "m.yaml:3:1")]
    assert "line 1" in told[0].detail


def test_what_was_found_before_a_syntax_error_is_told_too() -> None:
    assert codes("a: 1\na: 2\nb: *x\nc: [\n") == ["KI106", "KI115", "KI101"]


def test_terminal_escapes_are_shown_not_sent() -> None:
    assert printable("a\x1b[31m\n\u202e ä") == "a\\x1b[31m\\n\\u202e ä"
    (problem,) = problems("a: !%1b[31m 1\n") or problems("a: !x 1\n")
    assert "\x1b" not in problem.detail


# PyYAML writes text such as 0o7 without quotes, which is a number in YAML 1.2.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).filter(
    lambda text: isinstance(plain_value(text), str | None)
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | TEXTS,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text("abc-_.", min_size=1), children, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=4), PLAIN, min_size=1))
def test_what_is_written_as_yaml_is_read_back(tree: dict[str, Any]) -> None:
    found, told = read(yaml.safe_dump(tree), file="m.yaml")

    assert told == ()
    assert found is not None
    assert found.tree == tree
