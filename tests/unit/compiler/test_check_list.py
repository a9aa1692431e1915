"""The list of checks, and the tables that stand for the whole language."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable

import pytest

import kloros_infra.compiler
from kloros_infra.compiler.checks import CHECKS, LOCK_CHECKS
from kloros_infra.compiler.settings import settings
from kloros_infra.compiler.spec_keys import FOREIGN_KEYS

ROOMS = re.compile(r"check_(?!options).*|hardware|locked|purposes|references|unique")
NOT_AT_EACH_COMPILE = {"check_cover"}


def test_no_check_is_forgotten() -> None:
    modules = [
        importlib.import_module(f"kloros_infra.compiler.{module.name}")
        for module in pkgutil.iter_modules(kloros_infra.compiler.__path__)
        if ROOMS.fullmatch(module.name)
    ]
    found: set[Callable[..., object]] = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("check_") and name not in NOT_AT_EACH_COMPILE and callable(value)
    }

    assert {*CHECKS, *LOCK_CHECKS} == found


@pytest.mark.parametrize("known", sorted(set(FOREIGN_KEYS.values())))
def test_keys_of_other_programs_are_translated_into_settings_that_there_are(known: str) -> None:
    paths = {setting.path for setting in settings()}

    named = re.findall(r"[a-z_]+(?:\[\]|\.<[a-z]+>)?(?:\.[a-z_]+(?:\[\]|\.<[a-z]+>)?)*\.[a-z_]+", known)

    assert named or known.endswith(".")
    assert paths.issuperset(named), named
