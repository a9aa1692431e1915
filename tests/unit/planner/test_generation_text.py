"""What a generation changed, in a line, and the profile that it is gone to with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.artifact import Link
from kloros_infra.ir.generation import Manifest
from kloros_infra.planner.generation_changes import manifest_of, profile_at
from kloros_infra.planner.generation_text import what_differs
from tests.sites import MiniModel, Site

FIRST = manifest_of(Site().desired(), 1)


def generation(site: Site) -> Manifest:
    return manifest_of(site.desired(), 2)


MANY = {model.name: model for model in (*Site().models, MiniModel("a", {"max": 1}), MiniModel("b", {"max": 2}))}


@pytest.mark.parametrize(
    ("site", "told"),
    [
        (Site(), "nothing"),
        (Site(llama_server="/other"), "programs or files"),
        (Site(router_memory="1G"), "changed kloros-bus, kloros-profile, kloros-router"),
        (Site(purposes={"code": ("code",)}), "routes"),
    ],
)
def test_a_line_names_what_differs(site: Site, told: str) -> None:
    assert what_differs(FIRST, generation(site)) == told


def test_many_units_are_counted() -> None:
    told = what_differs(FIRST, generation(Site(models=tuple(MANY.values()), router_memory="1G")))
    assert told.startswith("added a-max, b-max; changed ")
    gone = what_differs(FIRST, generation(Site(models=(MANY["a"],))))
    assert "removed chat-max, chat-mid, code-max and 1 more" in gone


def test_the_first_one_is_counted() -> None:
    units = sum(name.startswith("units/") and "/" not in name.removeprefix("units/") for name in FIRST.files)
    assert what_differs(None, FIRST) == f"{units} units"


def test_a_fixed_file_counts() -> None:
    assert what_differs(FIRST, replace(FIRST, fixed={"etc/x": Link("y")})) == "programs or files"


def test_the_active_profile_is_kept_where_the_generation_has_it() -> None:
    assert profile_at(FIRST, "mid") == "mid"
    assert profile_at(FIRST, "other") == "max"
    assert profile_at(FIRST, None) == "max"
