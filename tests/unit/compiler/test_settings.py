"""Every setting says its type, default and example, and they are true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kloros_infra.compiler import serving
from kloros_infra.compiler.settings import (
    PLACES,
    Setting,
    Shape,
    children,
    declarations,
    default_of,
    sections,
    settings,
    spec_of,
    specs,
    told,
)
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import DefaultsSpec, InstanceSpec, ModelSpec, ServingSpec
from kloros_infra.ir.setting import INHERITED, Spec
from tests.whole_example import whole_example

WRITTEN_DEFAULTS = [
    (spec, name)
    for spec in specs().values()
    for name, _ in declarations(spec)
    if default_of(spec, name).value is not None
]


def setting(path: str) -> Setting:
    return next(one for one in settings() if one.path == path)


def accepted(spec: type[Spec], name: str, value: Any) -> Any:
    """Read a value of one setting, with examples for what the spec needs beside it."""
    needed = {key: field.examples[0] for key, field in spec.model_fields.items() if field.is_required()}  # type: ignore[index]
    return getattr(spec.model_validate_json(json.dumps({**needed, name: value})), name)


def test_every_example_is_accepted_where_it_stands() -> None:
    config = Config.model_validate_json(json.dumps(whole_example()))

    assert set(config.model_fields_set) == {one.name for one in sections()} - {"include"}


@pytest.mark.parametrize(("spec", "name"), WRITTEN_DEFAULTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_default_as_written_is_the_default(spec: type[Spec], name: str) -> None:
    field = spec.model_fields[name]
    value = accepted(spec, name, default_of(spec, name).value)

    assert value is not None
    assert told(field, INHERITED) or value == field.default


def test_what_is_standard_for_serving_is_what_the_declarations_say() -> None:
    standard = {
        name: accepted(DefaultsSpec, name, default_of(DefaultsSpec, name).value)
        for name in ("parallel", "cache_type_k", "cache_type_v", "placement", "preload", "prompt_ratio")
    }

    assert standard == {
        "parallel": serving.PARALLEL,
        "cache_type_k": serving.CACHE_TYPE,
        "cache_type_v": serving.CACHE_TYPE,
        "placement": serving.PLACEMENT,
        "preload": serving.PRELOAD,
        "prompt_ratio": serving.PROMPT_RATIO,
    }


def test_what_can_be_inherited_is_what_serving_shares() -> None:
    inherited = {one.path for one in settings() if one.is_inherited}

    assert inherited == {f"{place}.{name}" for place in PLACES for name in ServingSpec.model_fields}


def test_every_setting_says_all_there_is_to_say() -> None:
    for one in settings():
        assert one.doc.endswith((".", "`")), one.path
        assert one.type_words, one.path
        assert one.brief_type, one.path
        assert one.example is not None, one.path
        assert not (one.is_required and one.default_words), one.path


def test_paths_are_distinct_and_each_is_below_its_parent() -> None:
    def below(level: tuple[Setting, ...]) -> Iterator[str]:
        for one in level:
            yield one.path
            yield from below(children(one))

    paths = [one.path for one in settings()]
    assert len(paths) == len(set(paths))
    assert list(below(sections())) == paths


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gpus.<gpu>.reserve", "an amount of memory such as 12GiB or 600MiB"),
        ("models[].cost_tier", "one of low, medium, high"),
        ("profiles.<profile>.gpus", "a list; each item is a name"),
        ("models", "a list of mappings"),
        ("bus", "a mapping"),
        ("bus.managed", "true or false"),
        ("bridge.ports", "a list; each item is a whole number from 1 to 65535"),
        ("bridge.max_queued", "a whole number, 1 or more"),
        ("hosts.<host>.upstream.priority", "a whole number, 0 or more"),
        ("models[].draft.min_probability", "a number from 0 to 1"),
        ("version", "1"),
        ("personas[].tools[].parameters", "a mapping"),
        ("defaults.preload", "true or false"),
        (
            "profiles",
            "a mapping; each key is a profile's name: lower-case letters, digits and '_', 32 at most, no hyphen",
        ),
        (
            "models[].profiles.<profile>.layers",
            "a mapping; each key is a name: lower-case letters, digits, '.', '_' and '-', 64 at most, beginning with a"
            " letter or digit; each value is a whole number from 0 to 10000",
        ),
    ],
)
def test_types_are_told_in_words(path: str, words: str) -> None:
    assert setting(path).type_words == words


@pytest.mark.parametrize(
    ("path", "words", "value"),
    [
        ("defaults.parallel", "1", 1),
        ("models[].parallel", "that of `defaults`, then 1", None),
        ("models[].profiles.<profile>.parallel", "the model's, then that of `defaults`, then 1", None),
        ("models[].profiles.<profile>.context_tokens", "the model's", None),
        ("models[].name", "the id", None),
        ("personas[].display_name", "the id", None),
        ("models[].id", "", None),
        ("models[].aliases", "none", None),
        ("storage.max_used", "90%", "90%"),
        ("defaults.reserve", "512MiB", "512MiB"),
        ("gpus.<gpu>.reserve", "defaults.reserve", None),
        ("bridge.ports", "[11434]", [11434]),
        ("bus.managed", "true", True),
        ("gpus.<gpu>.lockout", "false", False),
        ("purposes.<purpose>.priority", "interactive", "interactive"),
        ("sandbox", "", None),
    ],
)
def test_defaults_are_told_in_words_and_as_written(path: str, words: str, value: Any) -> None:
    assert (setting(path).default_words, setting(path).default) == (words, value)


def test_own_settings_come_before_those_that_others_share() -> None:
    names = [name for name, _ in declarations(ModelSpec)]

    assert names[0] == "id"
    assert names[-len(ServingSpec.model_fields) :] == list(ServingSpec.model_fields)


def test_every_part_with_named_settings_is_found_once() -> None:
    assert {Config, DefaultsSpec, ModelSpec, InstanceSpec} <= set(specs().values())
    assert [name for name, spec in specs().items() if spec.__name__ != name] == []
    assert spec_of(Config, "version") == (Shape.VALUE, None)


@pytest.mark.parametrize(
    ("path", "is_acted_on"),
    [
        ("policies", True),
        ("policies.audit", False),
        ("policies.clients.<client>.models", True),
        ("hosts.<host>.upstream.health.interval", True),
        ("purposes.<purpose>.when[].contains", True),
        ("observability.traces", False),
        ("profiles.<profile>.conditions.leave_above", True),
        ("hosts.<host>.address", True),
        ("models[].profiles.<profile>.port", True),
        ("models[].draft.model", True),
    ],
)
def test_settings_without_effect_are_known(path: str, is_acted_on: bool) -> None:
    assert setting(path).is_acted_on is is_acted_on
