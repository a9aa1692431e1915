"""The schema and the parser agree: on every file of the corpus, and on valid files with something changed in them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kloros_infra.compiler.composition import INCLUDE, included
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.schema import models_schema, part_schema
from kloros_infra.compiler.settings import settings as all_settings
from kloros_infra.compiler.source import read
from kloros_infra.compiler.source_encoding import decode
from kloros_infra.compiler.spec import check_tree
from kloros_infra.ir.config import Config
from tests.whole_example import whole_example

pytestmark = pytest.mark.untraced

CHECKOUT = Path(__file__).parents[3]
CORPUS = sorted((CHECKOUT / "tests" / "cases").glob("*/*/models.yaml"))
SOUND = [CHECKOUT / "models.yaml", *sorted((CHECKOUT / "examples").glob("*/models.yaml"))]
WHOLE = Draft202012Validator(models_schema())
PART = Draft202012Validator(part_schema())

STRUCTURE = {"KI102", "KI103", "KI104", "KI105"}
"""What is wrong with keys and single values: what a schema can say."""


def of_the_text(code: str) -> bool:
    """Say whether a problem is the text's: the values are then not what the writer meant, and prove nothing."""
    return code.startswith("KI1") and code not in STRUCTURE


def parts_of(file: Path, text: str) -> dict[str, str]:
    """Read what a file includes."""
    names = [str(path.relative_to(file.parent)) for path in sorted(file.parent.rglob("*.yaml"))]
    return {
        name: (file.parent / name).read_text()
        for pattern in included(text, file="models.yaml")
        for name in names
        if pattern.is_match(name)
    }


def is_accepted(text: str, parts: dict[str, str]) -> bool:
    """Ask the standard validator, as an editor would: each file by itself, and its values as our reader gives them."""
    trees = [(WHOLE, read(text, file="models.yaml")[0])]
    trees += [(PART, read(part, file=name)[0]) for name, part in parts.items()]
    return all(source is None or validator.is_valid(source.tree) for validator, source in trees)


@pytest.mark.parametrize("file", [*CORPUS, *SOUND], ids=lambda file: f"{file.parent.parent.name}/{file.parent.name}")
def test_the_schema_refuses_what_the_parser_refuses(file: Path) -> None:
    text, _ = decode(file.read_bytes(), file="models.yaml")
    if text is None or read(text, file="models.yaml")[0] is None:
        return  # there are no values
    parts = parts_of(file, text)
    problems = [problem for problem in parse(text, file="models.yaml", parts=parts)[1] if problem.is_error]
    codes = {problem.code for problem in problems}

    if codes & STRUCTURE:
        assert not is_accepted(text, parts)
    elif not any(map(of_the_text, codes)):
        assert is_accepted(text, parts)


def test_the_corpus_has_files_of_both_kinds() -> None:
    verdicts = {
        bool(STRUCTURE & {problem.code for problem in parse(file.read_text(), file="models.yaml")[1]})
        for file in CORPUS
        if file.parent.name in ("wrong_types", "nothing_wrong")
    }
    assert verdicts == {True, False}


BASES = [whole_example(), *(read(file.read_text(), file="models.yaml")[0].tree for file in SOUND)]  # type: ignore[union-attr]
for base in BASES:
    base.pop(INCLUDE, None)

TEXTS = sorted({text for one in all_settings() for text in [one.example] if isinstance(text, str)})
KEYS = sorted({one.name for one in all_settings()})

# Left out are values that JSON cannot tell apart or does not have: 8601.0, which JSON Schema counts among the whole
# numbers (2020-12, 6.1.1) and the parser does not, infinity, and what is no number.
numbers = st.integers(-2, 70_000) | st.floats(-3, 200).filter(lambda value: not value.is_integer())
characters = st.characters(codec="utf-8")
words = (
    st.sampled_from(TEXTS)
    | st.sampled_from(KEYS)
    | st.text(characters, max_size=12)
    | st.builds(str.__add__, st.sampled_from(TEXTS), st.sampled_from(["\n", " ", "/..", "0", "\x85", "\x00", '"']))
    | st.builds(str.__add__, st.sampled_from(["0", " ", "/../", "-", "A"]), st.sampled_from(TEXTS))
    | st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,2})? ?(B|kB|GiB|ms|s|m|%|GB/s)", fullmatch=True)
    | st.from_regex(r"tcp://127\.0\.0\.1:[0-9]{1,6}", fullmatch=True)
)
scalars = st.none() | st.booleans() | numbers | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
)


def addresses(value: Any, address: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the address of every value within another."""
    match value:
        case dict():
            items: Any = value.items()
        case list():
            items = enumerate(value)
        case _:
            return
    for key, part in items:
        yield (*address, key)
        yield from addresses(part, (*address, key))


def variations(value: Any) -> st.SearchStrategy[Any]:
    """Give values that are nearly the same."""
    match value:
        case bool() | None:
            return st.none() | st.booleans()
        case int() | float():
            near = [value + 1, value - 1, -value, value * 1000, value + 0.5, 0, 1]
            return st.sampled_from([int(number) if float(number).is_integer() else number for number in near])
        case str():
            ends = st.sampled_from(["", "a", "A", "0", "-", ".", "_", "/", ":", " ", "\n", "..", "%", "B", "s"])
            return st.builds("{}{}{}".format, ends, st.sampled_from([value, value[1:], value[:-1]]), ends)
        case list():
            return st.sampled_from([[], value[:1], [*value, *value], value[0] if value else None])
        case _:
            return st.sampled_from([{}, dict(list(value.items())[:1]), None])


@st.composite
def changed_files(draw: st.DrawFn) -> dict[str, Any]:
    """Change a valid file in one or two places: vary, replace, remove or add a value."""
    tree = deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(sorted(addresses(tree), key=repr)))
        parent: Any = tree
        for key in way:
            parent = parent[key]
        match draw(st.sampled_from(["vary", "vary", "vary", "replace", "remove", "add"])):
            case "vary":
                parent[last] = draw(variations(parent[last]))
            case "remove":
                del parent[last]
            case "add" if isinstance(parent, dict):
                parent[draw(words)] = draw(values)
            case _:
                parent[last] = draw(values)
    # The root's own extra keys are for `compose`, which comes before.
    return {key: part for key, part in tree.items() if not key.startswith("x-") and key != INCLUDE}


def parser_accepts(tree: dict[str, Any]) -> bool:
    """Ask the parser's own spec."""
    return check_tree(tree, Config)[0] is not None


@settings(max_examples=300, deadline=None)
@given(changed_files())
def test_the_schema_and_the_parser_agree_on_changed_files(tree: dict[str, Any]) -> None:
    assert WHOLE.is_valid(tree) is parser_accepts(tree)
