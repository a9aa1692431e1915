"""Declarations of models.yaml → the JSON Schema that editors read (draft 2020-12).

It accepts what `parse` accepts and nothing else; what binds two values is left to `validate`. pydantic's own schema is
the start, for the types; defaults, precedence and messages come from the declarations.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic.fields import FieldInfo

from kloros_infra.compiler.composition import ASIDE, INCLUDE
from kloros_infra.compiler.settings import INCLUDING, NOT_ACTED_ON, declarations, default_of, is_acted_on, specs
from kloros_infra.compiler.type_words import JsonSchema
from kloros_infra.ir.config import Config
from kloros_infra.ir.setting import ACTED_ON, INHERITED, STANDARD, Spec
from kloros_infra.ir.written import MEANINGS, PARENT_FOLDER_PATTERN, TEXT_PATTERN

DRAFT = "https://json-schema.org/draft/2020-12/schema"
MODELS_ID = "urn:kloros-infra:models.yaml:1"
PART_ID = "urn:kloros-infra:models.yaml:1:part"

_TOLD_OTHERWISE = ("title", "description", "default", "examples", STANDARD, INHERITED, ACTED_ON)


_NULL = {"type": "null"}


def models_schema() -> dict[str, Any]:
    """Describe models.yaml."""
    whole = Config.model_json_schema()
    sections = _sections(whole)
    return {
        "$schema": DRAFT,
        "$id": MODELS_ID,
        "title": "models.yaml",
        "description": "Machines, models and what they are asked for, as kloros-infra reads them.",
        **sections,
        "properties": {**sections["properties"], INCLUDE: _including()},
        # What this file does not say may stand in one that it includes.
        "if": {"required": [INCLUDE]},
        "else": {"required": whole["required"]},
        "$defs": _definitions(whole),
    }


def part_schema() -> dict[str, Any]:
    """Describe a file that models.yaml includes: the same sections, none of which it must have."""
    whole = Config.model_json_schema()
    return {
        "$schema": DRAFT,
        "$id": PART_ID,
        "title": "Part of models.yaml",
        "description": "A file that a models.yaml of kloros-infra includes.",
        **_sections(whole),
        "$defs": _definitions(whole),
    }


def schema_text(schema: JsonSchema) -> str:
    """Write a schema as the text that is published."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _sections(whole: JsonSchema) -> dict[str, Any]:
    sections = _mapping(Config, whole)
    del sections["required"]
    return {
        **sections,
        "patternProperties": {f"^{ASIDE}": {"description": "Read by nobody: a place for values that anchors mark."}},
    }


def _including() -> dict[str, Any]:
    """Describe the key that names further files; see `compiler.composition` for what it refuses."""
    name = {"type": "string", "minLength": 1, "not": {"pattern": PARENT_FOLDER_PATTERN + r"|^[/~]|\*\*|\\"}}
    return {
        "description": INCLUDING.doc,
        "examples": [INCLUDING.example],
        "anyOf": [name, {"type": "array", "items": name}, _NULL],
    }


def _definitions(whole: JsonSchema) -> dict[str, Any]:
    known = specs()
    return {
        _definition_name(name): _mapping(known[name], schema) if name in known else _plain(schema)
        for name, schema in whole["$defs"].items()
    }


def _definition_name(name: str) -> str:
    """Turn `KvType` into `kv_type`, and `GpuSpec` into `gpu`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Spec")).lower()


def _mapping(spec: type[Spec], schema: JsonSchema) -> dict[str, Any]:
    """Write down a part of the file whose settings have names."""
    required = [name for name, field in declarations(spec) if field.is_required()]
    return {
        "type": "object",
        "properties": {
            name: {**_told(spec, name, field), **_setting(schema["properties"][name], field)}
            for name, field in declarations(spec)
        },
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _setting(schema: JsonSchema, field: FieldInfo) -> dict[str, Any]:
    """Say what a setting may be: what may be left out may also be null."""
    kept = {key: value for key, value in schema.items() if key not in _TOLD_OTHERWISE}
    is_said = field.is_required() or _NULL in kept.get("anyOf", ())
    return _plain(kept if is_said else {"anyOf": [kept, _NULL]})


def _told(spec: type[Spec], name: str, field: FieldInfo) -> dict[str, Any]:
    """Give what an editor shows of a setting, and its default where that is a plain value."""
    default = default_of(spec, name)
    sentences = [str(field.description)]
    if default.words:
        sentences.append(f"Default: {default.words}.")
    if not is_acted_on(spec, field):
        sentences.append(NOT_ACTED_ON)
    return {
        "description": " ".join(sentences),
        **({} if default.value is None else {"default": default.value}),
        "examples": field.examples,
    }


def _plain(schema: JsonSchema) -> dict[str, Any]:
    """Keep what a schema of pydantic says about values, and say it as strictly as the parser is."""
    kept = {key: value for key, value in schema.items() if key not in _TOLD_OTHERWISE}
    match kept:
        case {"$ref": str(reference)}:
            return {"$ref": f"#/$defs/{_definition_name(reference.rpartition('/')[2])}"}
        case {"anyOf": [{"type": str(kind)} as form, {"type": "null"}]} if "enum" not in form:
            return {**_plain(form), "type": [kind, "null"]}
        case {"anyOf": list(choices)}:
            return {"anyOf": [_plain(choice) for choice in choices]}
        case {"items": item}:
            return {**kept, "items": _plain(item)}
        case {"patternProperties": entries}:
            return _entries(kept, entries)
        case _:
            return {**kept, **_text(kept)}


def _entries(kept: dict[str, Any], entries: JsonSchema) -> dict[str, Any]:
    """Refuse keys that do not match, where pydantic's schema lets them be anything."""
    ((pattern, value),) = entries.items()
    rest = {key: part for key, part in kept.items() if key != "patternProperties"}
    names = {"type": "string", "pattern": pattern, **rest.get("propertyNames", {})}
    return {**rest, "propertyNames": _plain(names), "additionalProperties": _plain(value)}


def _text(schema: JsonSchema) -> dict[str, Any]:
    r"""Say a pattern in words, and that the text ends where it does.

    `$` is the end of the text in ECMA-262, which JSON Schema names, and in the parser; other validators let one line
    break follow (Python, re, "Regular Expression Syntax").
    """
    if "pattern" not in schema:
        return {}
    pattern = schema["pattern"]
    refused = [schema["not"]["pattern"]] if "not" in schema else []
    if pattern != TEXT_PATTERN:
        refused.append(r"\n$")
    return {
        **({"not": {"type": "string", "pattern": "|".join(refused)}} if refused else {}),
        "patternErrorMessage": f"Expected {MEANINGS[pattern]}.",
    }
