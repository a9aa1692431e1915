"""models.yaml as hypothesis writes it: from the declarations, so that much of it is right, and then wrong somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from kloros_infra.ir.config import Config
from kloros_infra.ir.names import NAME_PATTERN, PROFILE_PATTERN
from kloros_infra.ir.written import COMPUTE_CAPABILITY_PATTERN, LINE_PATTERN, TEXT_PATTERN, VERSION_PATTERN

Tree = Any
Schema = Mapping[str, Any]

SCHEMA = Config.model_json_schema()
# Few names, so that what is referred to is often there.
POOLS = {
    NAME_PATTERN: ("a", "b", "a-b"),
    PROFILE_PATTERN: ("max", "cpu_only"),
    VERSION_PATTERN: ("1", "2"),
    COMPUTE_CAPABILITY_PATTERN: ("6.1", "8.6", "12.0"),
}
SHORT_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


def as_yaml(tree: Tree) -> str:
    """Write a tree as YAML that every reader takes: JSON over many lines, with all but plain characters as escapes."""
    text = json.dumps(tree, ensure_ascii=False, indent=1)
    return re.sub(r"[^\x20-\x7e\n]", lambda found: f"\\U{ord(found[0]):08x}", text)


def values(schema: Schema) -> st.SearchStrategy[Tree]:
    """Draw what a part of the schema allows."""
    if "$ref" in schema:
        return values(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of(*map(values, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    make = BY_TYPE.get(schema.get("type", ""))
    return make(schema) if make else JUNK


def _mapping(schema: Schema) -> st.SearchStrategy[Tree]:
    if "properties" in schema:
        parts = {name: values(part) for name, part in schema["properties"].items()}
        required = set(schema.get("required", ()))
        optional = {name: part for name, part in parts.items() if name not in required}
        return st.fixed_dictionaries({name: parts[name] for name in sorted(required)}, optional=optional)
    (pattern, inner), *_ = schema.get("patternProperties", {".*": {}}).items()
    keys = _text({"pattern": pattern})
    return st.dictionaries(keys, values(inner), min_size=schema.get("minProperties", 0), max_size=2)


def _list(schema: Schema) -> st.SearchStrategy[Tree]:
    return st.lists(values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=2)


def _text(schema: Schema) -> st.SearchStrategy[str]:
    pattern = schema.get("pattern")
    if pattern in POOLS:
        return st.sampled_from(POOLS[pattern])
    if pattern in (None, LINE_PATTERN, TEXT_PATTERN, ".*"):
        return SHORT_TEXT
    return st.from_regex(str(pattern), fullmatch=True)


def _integer(schema: Schema) -> st.SearchStrategy[int]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return st.integers(least, schema.get("maximum", 10**6))


def _number(schema: Schema) -> st.SearchStrategy[float]:
    return st.floats(schema.get("minimum", -1e6), schema.get("maximum", 1e6))


BY_TYPE: Mapping[str, Callable[[Schema], st.SearchStrategy[Tree]]] = {
    "object": _mapping,
    "array": _list,
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
}


@st.composite
def models_yaml(draw: st.DrawFn) -> Tree:
    """Draw a tree for one machine, with up to two mistakes in it."""
    tree = draw(values(SCHEMA))
    if draw(st.booleans()):
        tree["hosts"] = {"a": {}}
        for card in tree.get("gpus", {}).values():
            card["host"] = "a"
    return draw(mistaken(tree, most=2))


@st.composite
def mistaken(draw: st.DrawFn, tree: Tree, *, most: int) -> Tree:
    """Draw the same tree with some mistakes: parts replaced, taken out, added, or said where others belong."""
    leaves = list(_leaves(tree))
    for _ in range(draw(st.integers(0, most))):
        tree = draw(_one_mistake(tree, leaves))
    return tree


@st.composite
def _one_mistake(draw: st.DrawFn, tree: Tree, leaves: list[Tree]) -> Tree:
    match tree:
        case dict() if tree and draw(st.integers(0, 7)) > 0:
            key = draw(st.sampled_from(sorted(tree)))
            return {**tree, key: draw(_one_mistake(tree[key], leaves))}
        case list() if tree and draw(st.integers(0, 7)) > 0:
            index = draw(st.integers(0, len(tree) - 1))
            return [*tree[:index], draw(_one_mistake(tree[index], leaves)), *tree[index + 1 :]]
        case dict() if tree and draw(st.integers(0, 1)) > 0:
            left_out = draw(st.sampled_from(sorted(tree)))
            return {key: value for key, value in tree.items() if key != left_out}
        case dict():
            return {**tree, draw(st.text(max_size=8)): draw(JUNK)}
        case list() if tree and draw(st.integers(0, 1)) > 0:
            return [*tree, draw(st.sampled_from(tree))]
        case _:
            alike = [leaf for leaf in leaves if type(leaf) is type(tree)]
            return draw(st.sampled_from(alike) | JUNK if alike else JUNK)


def _leaves(tree: Tree) -> Iterator[Tree]:
    match tree:
        case dict():
            for value in tree.values():
                yield from _leaves(value)
        case list():
            for value in tree:
                yield from _leaves(value)
        case _:
            yield tree
