"""The published schemas are current, say what editors need, and their patterns mean the same everywhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, TypeAdapter, ValidationError

from kloros_infra.compiler.schema import MODELS_ID, PART_ID, models_schema, part_schema, schema_text
from kloros_infra.compiler.settings import settings
from tests.needed import need
from tests.whole_example import whole_example

PUBLISHED = Path(__file__).parents[3] / "schema"
SCHEMAS = {"models.schema.json": models_schema, "part.schema.json": part_schema}
OWN_KEYS = {"standard", "inherited", "acted_on", "title"}

each_schema = pytest.mark.parametrize("name", sorted(SCHEMAS))


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Give a schema and every schema within it; examples and defaults are values."""
    if isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            if key in ("properties", "patternProperties", "$defs"):
                for one in part.values():
                    yield from parts(one)
            elif key in ("items", "additionalProperties", "propertyNames", "not", "if", "else"):
                yield from parts(part)
            elif key == "anyOf":
                for one in part:
                    yield from parts(one)


def patterns() -> list[str]:
    """Give every pattern of the published schemas."""
    found = {part["pattern"] for make in SCHEMAS.values() for part in parts(make()) if "pattern" in part}
    found |= {key for make in SCHEMAS.values() for part in parts(make()) for key in part.get("patternProperties", {})}
    return sorted(found)


@each_schema
def test_the_published_schema_is_current(name: str) -> None:
    assert (PUBLISHED / name).read_text() == schema_text(SCHEMAS[name]()), "kloros-infra schema writes it"


@each_schema
def test_a_schema_is_one_of_its_draft(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name]())


@each_schema
def test_every_mapping_with_named_settings_is_closed(name: str) -> None:
    for part in parts(SCHEMAS[name]()):
        if "properties" in part:
            assert part["additionalProperties"] is False


@each_schema
def test_nothing_of_our_own_is_left_in_it(name: str) -> None:
    whole, *below = parts(SCHEMAS[name]())

    assert whole["title"]
    assert not [part for part in below if OWN_KEYS & part.keys()]
    assert not re.search(r"Spec\b", schema_text(whole))


@each_schema
def test_every_setting_has_a_description_and_an_example(name: str) -> None:
    for part in parts(SCHEMAS[name]()):
        for key, setting in part.get("properties", {}).items():
            assert setting["description"], key
            assert setting["examples"], key


@each_schema
def test_a_default_is_as_it_would_be_written(name: str) -> None:
    whole = SCHEMAS[name]()
    for part in parts(whole):
        for setting in part.get("properties", {}).values():
            if "default" in setting:
                validator = Draft202012Validator({**setting, "$defs": whole["$defs"]})
                assert validator.is_valid(setting["default"]), setting


def test_the_two_schemas_are_told_apart() -> None:
    assert models_schema()["$id"] == MODELS_ID
    assert part_schema()["$id"] == PART_ID
    assert MODELS_ID != PART_ID


def test_only_models_yaml_includes_others_and_must_be_whole() -> None:
    whole, part = (Draft202012Validator(make()) for make in (models_schema, part_schema))

    assert whole.is_valid(whole_example())
    assert part.is_valid(whole_example())
    assert not whole.is_valid({"version": 1})
    assert part.is_valid({"version": 1})
    assert whole.is_valid({"include": "models/*.yaml"})
    assert not part.is_valid({"include": "models/*.yaml"})
    assert part.is_valid({"x-shared": [1, {"any": "thing"}]})
    assert not part.is_valid({"shared": 1})


@pytest.mark.parametrize(
    "name", ["/etc/models.yaml", "~/models.yaml", "../models.yaml", "a/../b.yaml", "**/x.yaml", "a\\b", ""]
)
def test_what_leaves_the_folder_is_not_included(name: str) -> None:
    validator = Draft202012Validator(models_schema())

    assert not validator.is_valid({"include": name})
    assert not validator.is_valid({"include": ["models/code.yaml", name]})


def test_what_an_editor_shows_is_all_there_is_to_say() -> None:
    definitions = models_schema()["$defs"]
    port, lease = (definitions["instance"]["properties"][name] for name in ("port", "lease"))
    audit = definitions["policies"]["properties"]["audit"]
    reserve = definitions["defaults"]["properties"]["reserve"]

    assert port["description"].startswith("Loopback port of its llama-server. Left out, ")
    assert port["description"].endswith(" Default: the next free one after the model's first.")
    assert lease["description"] == (
        "How long an allocation lasts without activity. Default: the model's, then that of `defaults`, then 10m."
    )
    assert audit["description"].endswith(" Checked, but not acted on by this version yet.")
    assert reserve["default"] == "512MiB"
    assert reserve["patternErrorMessage"] == "Expected an amount of memory such as 12GiB or 600MiB."
    assert "default" not in lease


# ECMA-262 with its flag `u`, Python's re and Rust's regex agree on these: literals, escapes of punctuation and code
# points, classes, groups, alternatives, repetition, `^` and `$`. They differ in \d, \w, \s, \b, \Z, look-around and
# possessive repetition.
ESCAPE = r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[.\[\]\\*?/n])"
CLASS = rf"\[(?:{ESCAPE}|[^\\\]])+\]"
SHARED = re.compile(rf"(?:{ESCAPE}|{CLASS}|\(\?:|\((?!\?)|[^\\\[(+*?]|[+*?](?![+*?]))*")


@pytest.mark.parametrize("pattern", patterns())
def test_a_pattern_uses_only_what_all_dialects_share(pattern: str) -> None:
    re.compile(pattern)

    assert SHARED.fullmatch(pattern)


def texts() -> list[str]:
    """Give texts to try patterns on: examples, and what is nearly one."""
    examples = [text for one in settings() for text in _texts_in(one.example)]
    changed = (
        f(text) for text in examples for f in (str.upper, lambda t: f"{t}\n", lambda t: f" {t}", lambda t: t[:-1])
    )
    odd = [
        "",
        "..",
        "/..",
        "/a/../b",
        "a\x00b",
        "a\u2028b",
        "a\x85",
        "é",
        "0GiB",
        "tcp://127.0.0.1:65536",
        "100.1%",
        '/a"',
    ]
    return sorted({*examples, *changed, *odd})


def _texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, part in value.items():
                yield from (key, *_texts_in(part))
        case list():
            for part in value:
                yield from _texts_in(part)
        case _:
            return


def is_match(pattern: str, text: str) -> bool:
    """Ask pydantic, whose patterns are Rust's."""
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern)]).validate_python(text)
    except ValidationError:
        return False
    return True


@pytest.mark.untraced
def test_javascript_finds_the_same() -> None:
    node = shutil.which("node")
    need(node is not None, "node")
    script = "const [p, t] = JSON.parse(require('fs').readFileSync(0)); const f = p.map(x => new RegExp(x, 'u'));"
    script += "console.log(JSON.stringify(f.map(x => t.map(y => x.test(y)))))"
    asked = json.dumps([patterns(), texts()])
    answer = subprocess.run([str(node), "-e", script], input=asked, capture_output=True, text=True, check=True)

    assert json.loads(answer.stdout) == [[is_match(pattern, text) for text in texts()] for pattern in patterns()]
