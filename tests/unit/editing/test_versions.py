"""Which version comes next, which came before, and whose it is."""

from __future__ import annotations

import pytest

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.editing.versions import check_version, find_model, next_version_id, version_before
from kloros_infra.ir.config_models import ModelSpec
from tests.unit.editing.configs import a_config, a_spec


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((), "2025-11-17-01"),
        (("2025-11-16-07", "v1"), "2025-11-17-01"),
        (("2025-11-17-01", "2025-11-17-02"), "2025-11-17-03"),
        (("2025-11-17-09", "2025-11-17-x"), "2025-11-17-10"),
        (("2025-11-17-99",), "2025-11-17-100"),
    ],
)
def test_versions_of_a_day_count_on(taken: tuple[str, ...], expected: str) -> None:
    assert next_version_id(taken, "2025-11-17") == expected


@pytest.mark.parametrize("asked", ["small", "small-7b", "small:7b"])
def test_a_model_answers_to_id_name_and_alias(asked: str) -> None:
    model = find_model(a_config(a_spec(name="small", aliases=["small:7b"])), asked)
    assert isinstance(model, ModelSpec)
    assert model.id == "small-7b"


def test_an_unknown_model_is_told_with_the_likeliest() -> None:
    unknown = find_model(a_config(a_spec()), "smal-7b")
    assert isinstance(unknown, Diagnostic)
    assert (unknown.code, unknown.hint) == ("KI525", "Did you mean 'small-7b'?")


def test_an_unknown_version_is_told_with_the_likeliest() -> None:
    model = a_spec(versions=["2025-11-17-01", "2025-12-01-01"])
    assert check_version(model, "2025-12-01-01") is None
    unknown = check_version(model, "2025-12-01")
    assert unknown is not None
    assert (unknown.code, unknown.hint) == ("KI526", "Did you mean '2025-12-01-01'?")


def test_the_version_before_is_that_of_the_list() -> None:
    assert version_before(a_spec(versions=["b", "a", "c"], current_version="c")) == "a"


@pytest.mark.parametrize(
    ("versions", "current", "hint"),
    [(["a", "b"], "a", "--to"), (["a"], None, "Pull"), ([], None, "Pull"), (["a", "b"], None, "--to")],
)
def test_there_may_be_none_before(versions: list[str], current: str | None, hint: str) -> None:
    none = version_before(a_spec(versions=versions, current_version=current))
    assert isinstance(none, Diagnostic)
    assert none.code == "KI527"
    assert hint in none.hint
