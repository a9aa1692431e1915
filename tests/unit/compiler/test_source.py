"""YAML text → plain values and their places."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_EVENTS,
    Address,
    Source,
    decode,
    plain_value,
    read,
)
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


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0o17", 15),
        ("0xff", 255),
        ("017", 17),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("2025-11-17", "2025-11-17"),
        ("0b11", "0b11"),
        ("=", "="),
        ("9" * 5000, math.inf),
    ],
)
def test_unquoted_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: Any) -> None:
    found = plain_value(written)

    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number() -> None:
    found = plain_value(".nan")

    assert isinstance(found, float)
    assert math.isnan(found)


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


def test_a_byte_order_mark_does_not_move_anything() -> None:
    assert str(source("\ufeffa: 1\n").span(("a",))) == "m.yaml:1:4"


def test_bytes_that_are_not_utf_8_are_located() -> None:
    text, found = decode(b"a: 1\nb: \xc3\xa4\xff\n", file="m.yaml")

    assert text is None
    assert [(problem.code, str(problem.span)) for problem in found] == [("KI109", "m.yaml:2:5")]


def test_utf_8_is_decoded() -> None:
    assert decode("ä: 1\n".encode(), file="m.yaml") == ("ä: 1\n", ())


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "---\n...\n", "~\n"])
def test_a_file_without_values_is_empty(text: str) -> None:
    assert codes(text) == ["KI110"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_nesting_without_end_is_refused_at_once(opening: str) -> None:
    begin = time.perf_counter()

    assert codes(opening * (MAX_BYTES // len(opening) // 4))[-1] == "KI108"
    assert time.perf_counter() - begin < 5


def test_nesting_is_allowed_up_to_the_limit() -> None:
    assert source("[" * MAX_DEPTH + "]" * MAX_DEPTH).tree
    assert codes("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == ["KI108"]


@pytest.mark.parametrize("text", ["#" * (MAX_BYTES + 1), "#" + "ä" * (MAX_BYTES // 2), "#" * (4 * MAX_BYTES)])
def test_a_large_file_is_refused_by_its_bytes(text: str) -> None:
    assert codes(text) == ["KI108"]


def test_a_file_of_very_many_values_is_refused() -> None:
    assert codes("- 1\n" * MAX_EVENTS) == ["KI108"]


def test_a_billion_laughs_are_never_expanded() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))

    assert set(codes(f"a0: &a0 lol\n{levels}")) == {"KI107"}


def test_all_unsupported_features_are_told_at_once() -> None:
    text = "a: &x 1\nb: *x\n<<: *x\nc: !!str 1\nd: !own [1]\n? [e]\n: 1\n*x : 2\n"

    assert [str(problem.span) for problem in problems(text)] == [
        "m.yaml:1:4",
        "m.yaml:2:4",
        "m.yaml:3:1",
        "m.yaml:3:5",
        "m.yaml:4:4",
        "m.yaml:5:4",
        "m.yaml:6:3",
        "m.yaml:8:1",
    ]


def test_a_quoted_merge_key_is_a_key() -> None:
    assert source('"<<": 1\n').tree == {"<<": 1}


def test_a_key_written_twice_is_told_and_the_rest_is_read() -> None:
    found, told = read("a: 1\nb: 2\na: 3\n", file="m.yaml")

    assert found is not None
    assert [(problem.code, str(problem.span)) for problem in told] == [("KI106", "m.yaml:3:1")]
    assert "line 1" in told[0].detail


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: 'x\n", "m.yaml:1:4", "Close"),
        ("a: [1,\n  2\n", "m.yaml:1:4", "Close"),
        ("a: {b: 1\n", "m.yaml:1:4", "Close"),
        ("a: b: c\n", "m.yaml:1:5", "quotes"),
        ("a:\n\tb: 1\n", "m.yaml:2:1", "spaces"),
        ("a: @b\n", "m.yaml:1:4", "quotes"),
        ("a: 1\nb\nc: 2\n", "m.yaml:3:1", "`key: value`"),
        ("a: 1\n- 2\n", "m.yaml:2:1", "indentation"),
        ("%YAML 3.0\n---\na: 1\n", "m.yaml:1:1", "indentation"),
    ],
)
def test_syntax_errors_are_located_with_a_remedy(text: str, place: str, hint: str) -> None:
    (problem,) = problems(text)

    assert problem.code == "KI101"
    assert str(problem.span) == place
    assert hint in problem.hint


@pytest.mark.parametrize("text", ['a: "\\U00110000"', 'a: "\\UFFFFFFFF"', "%YAML 1." + "9" * 5000 + "\n---\na: 1\n"])
def test_numbers_that_pyyaml_does_not_check_are_refused(text: str) -> None:
    assert codes(text) == ["KI101"]


@pytest.mark.parametrize(
    ("text", "place"), [("a: 1\nb: \x00", "m.yaml:2:4"), ("\ud800", "m.yaml:1:1"), ('a: "\\udfff"', "m.yaml:1:4")]
)
def test_what_is_not_text_is_refused(text: str, place: str) -> None:
    (problem,) = problems(text)

    assert problem.code == "KI109"
    assert str(problem.span) == place


def test_what_was_found_before_a_syntax_error_is_told_too() -> None:
    assert codes("a: 1\na: 2\nb: [\n") == ["KI106", "KI101"]


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


@settings(max_examples=500)
@given(st.text("abn: -[]{}'\"\n\t&*!?|>%#,~<0123456789.\\\ud800\x00\ufeffä", max_size=60))
def test_no_text_raises(text: str) -> None:
    found, told = read(text, file="m.yaml")

    assert found is not None or told
    assert all(problem.span is not None for problem in told)


@given(st.binary(max_size=40))
def test_no_bytes_raise(data: bytes) -> None:
    text, told = decode(data, file="m.yaml")

    assert (text is None) is bool(told)
