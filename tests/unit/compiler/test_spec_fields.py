"""What is declared for an address is found by the types on the way, whatever names of their own people give."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.compiler.source import Address
from kloros_infra.compiler.spec_fields import limits_of, place_of, without
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import ProfileSpec
from kloros_infra.ir.config_models import ModelSpec, VersionSpec


@pytest.mark.parametrize(
    ("address", "spec", "is_setting"),
    [
        ((), Config, False),
        (("profiles",), Config, True),
        (("profiles", "gpus"), ProfileSpec, False),
        (("profiles", "gpus", "gpus"), ProfileSpec, True),
        (("profiles", "gpus", "gpus", 0), ProfileSpec, False),
        (("profiles", "gpus", "unknown"), ProfileSpec, False),
        (("models", 0, "versions", 1), VersionSpec, False),
        (("models", 0, "versions", 1, "gguf_url", 2), VersionSpec, False),
        (("models", 0, "arguments", "threads"), ModelSpec, False),
        (("unknown", "id"), Config, False),
        (("version", 0, "id"), Config, False),
    ],
)
def test_the_place_of_an_address_is_found(address: Address, spec: type, is_setting: bool) -> None:
    place = place_of(address, Config)

    assert (place.spec, place.is_setting) == (spec, is_setting)


def test_an_item_belongs_to_the_setting_that_holds_it() -> None:
    assert place_of(("models", 0, "arguments", "threads"), Config).setting is ModelSpec.model_fields["arguments"]


@pytest.mark.parametrize(
    ("address", "limits"),
    [
        (("bridge", "ports"), [65535]),
        (("personas", 0, "sampling", "seed"), [2**32 - 1]),
        (("models", 0, "profiles", "mid", "layers"), [10_000]),
        (("bus", "managed"), []),
    ],
)
def test_the_largest_number_of_a_setting_is_found(address: Address, limits: list[int]) -> None:
    setting = place_of(address, Config).setting

    assert setting is not None
    assert sorted(set(limits_of(setting))) == limits


def test_keys_are_left_out_of_a_copy() -> None:
    tree: Any = {"a": None, "b": [{"c": None, "d": 1}, {"e": 2}], "f": {"g": None}}

    assert without(tree, [("a",), ("b", 0, "c"), ("f", "g")]) == {"b": [{"d": 1}, {"e": 2}], "f": {}}
    assert tree == {"a": None, "b": [{"c": None, "d": 1}, {"e": 2}], "f": {"g": None}}
    assert without(tree, []) == tree
