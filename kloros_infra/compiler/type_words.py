"""JSON Schema of one value → what may be written there, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kloros_infra.ir.written import LARGEST_COUNT, MEANINGS

JsonSchema = Mapping[str, Any]

BRIEF: Mapping[str, str] = {pattern: words.partition(": ")[0] for pattern, words in MEANINGS.items()}
"""Each pattern in words, without the characters that are allowed."""
NUMBERS = {"integer": "a whole number", "number": "a number"}


def type_words(
    schema: JsonSchema, definitions: Mapping[str, JsonSchema], *, meanings: Mapping[str, str] = MEANINGS
) -> str:
    """Say what a schema accepts, such as `a whole number from 1 to 65535` or `one of low, medium, high`."""
    match schema:
        case {"$ref": str(reference)}:
            return type_words(definitions[reference.rpartition("/")[2]], definitions, meanings=meanings)
        case {"anyOf": list(choices)}:
            # A setting that may be null says the same by being left out.
            some = [choice for choice in choices if choice != {"type": "null"}]
            return ", or ".join(type_words(choice, definitions, meanings=meanings) for choice in some)
        case {"const": value}:
            return str(value)
        case {"enum": list(values)}:
            return f"one of {', '.join(map(str, values))}"
        case _:
            return _words_of_type(schema, definitions, meanings)


def _words_of_type(schema: JsonSchema, definitions: Mapping[str, JsonSchema], meanings: Mapping[str, str]) -> str:
    match schema["type"]:
        case "array":
            return f"a list{_each(schema['items'], definitions)}"
        case "object":
            return f"a mapping{_entries(schema, definitions, meanings)}"
        case "string":
            return meanings[schema["pattern"]]
        case "integer" | "number" as kind:
            return f"{NUMBERS[kind]}{_range(schema)}"
        case _:
            return "true or false"


def _each(item: JsonSchema, definitions: Mapping[str, JsonSchema]) -> str:
    words = type_words(item, definitions, meanings=BRIEF)
    return " of mappings" if words == "a mapping" else f"; each item is {words}"


def _entries(schema: JsonSchema, definitions: Mapping[str, JsonSchema], meanings: Mapping[str, str]) -> str:
    """Say what a mapping's keys and values are; settings with names of their own are told one by one."""
    entries: Mapping[str, JsonSchema] = schema.get("patternProperties", {})
    return "".join(f"; each key is {meanings[key]}{_value(value, definitions)}" for key, value in entries.items())


def _value(value: JsonSchema, definitions: Mapping[str, JsonSchema]) -> str:
    words = type_words(value, definitions, meanings=BRIEF)
    return "" if words == "a mapping" else f"; each value is {words}"


def _range(schema: JsonSchema) -> str:
    low = schema.get("minimum", 1 if schema.get("exclusiveMinimum") == 0 else None)
    high = schema.get("maximum")
    match low, None if high == LARGEST_COUNT else high:
        case None, _:
            return ""
        case _, None:
            return f", {low} or more"
        case _:
            return f" from {low} to {high}"
