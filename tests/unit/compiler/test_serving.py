"""Settings of an instance: the nearest of profile, model, defaults and what is standard."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.compiler import serving
from kloros_infra.compiler.serving import serving_of
from kloros_infra.ir.catalog import CostTier, KvType, PlacementMode, Serving
from kloros_infra.ir.config_models import DefaultsSpec, InstanceSpec, ModelSpec, ServingSpec
from kloros_infra.ir.on_change import OnChange
from kloros_infra.ir.setting import STANDARD

OTHERS: dict[str, tuple[Any, Any, Any]] = {
    "parallel": (2, 3, 4),
    "cache_type_k": (KvType.Q8_0, KvType.Q4_0, KvType.BF16),
    "cache_type_v": (KvType.Q8_0, KvType.Q4_0, KvType.BF16),
    "placement": (PlacementMode.FIT, PlacementMode.MANUAL, PlacementMode.SOLVER),
    "preload": (False, True, False),
    "on_change": (OnChange.DEFER, OnChange.NEVER, OnChange.RELOAD),
}
"""For each setting a value in the profile, in the model and in the defaults."""


def settled(
    profile: dict[str, Any] | None = None, model: dict[str, Any] | None = None, defaults: dict[str, Any] | None = None
) -> Serving:
    """Settle what is written in three places."""
    spec = ModelSpec(
        id="small",
        display_name="Small",
        purpose_tags=("fast",),
        context_tokens=4096,
        cost_tier=CostTier.LOW,
        **(model or {}),
    )
    return serving_of(InstanceSpec(port=8601, **(profile or {})), spec, DefaultsSpec(**(defaults or {})))


def test_what_placement_shall_do_is_the_nearest_too() -> None:
    in_profile = {"prompt_ratio": 0.5, "cache_types": (), "min_context_tokens": 1024}
    in_defaults = {"prompt_ratio": 16.0, "cache_types": (KvType.Q8_0,), "min_context_tokens": 2048}

    def found(serving: Serving) -> tuple[float, tuple[KvType, ...], int | None]:
        return serving.preference.prefill, serving.cache_type_choices, serving.min_context_tokens

    assert found(settled(in_profile, None, in_defaults)) == (0.5, (), 1024)
    assert found(settled(None, None, in_defaults)) == (16.0, (KvType.Q8_0,), 2048)
    assert found(settled()) == (4.0, (), None)
    assert settled().preference.decode == 1.0


@pytest.mark.parametrize("name", OTHERS)
def test_the_nearest_counts(name: str) -> None:
    in_profile, in_model, in_defaults = ({name: value} for value in OTHERS[name])

    assert getattr(settled(in_profile, in_model, in_defaults), name) == OTHERS[name][0]
    assert getattr(settled(None, in_model, in_defaults), name) == OTHERS[name][1]
    assert getattr(settled(None, None, in_defaults), name) == OTHERS[name][2]


def test_what_is_standard_is_what_the_declarations_say() -> None:
    words = {
        name: str((field.json_schema_extra or {}).get(STANDARD))  # type: ignore[union-attr]
        for name, field in ServingSpec.model_fields.items()
        if name in OTHERS
    }

    assert words == {
        "parallel": str(serving.PARALLEL),
        "cache_type_k": serving.CACHE_TYPE.value,
        "cache_type_v": serving.CACHE_TYPE.value,
        "placement": serving.PLACEMENT.value,
        "preload": str(serving.PRELOAD).lower(),
        "on_change": serving.ON_CHANGE.value,
    }
    assert settled() == Serving(4096, 1, KvType.F16, KvType.F16, PlacementMode.AUTO, preload=True, arguments=())


@pytest.mark.parametrize(
    ("profile", "model", "defaults", "idle_timeout_s"),
    [
        ({}, {}, {}, None),
        ({}, {"preload": False}, {}, 300.0),
        ({}, {}, {"preload": False}, 300.0),
        ({"preload": True}, {}, {"preload": False}, None),
        ({}, {"idle_timeout": "1m"}, {}, 60.0),
        ({}, {}, {"idle_timeout": "0s"}, 0.0),
        ({"idle_timeout": "2m"}, {"idle_timeout": "1m", "preload": False}, {"idle_timeout": "3m"}, 120.0),
        ({"pin": True}, {"idle_timeout": "1m", "preload": False}, {}, None),
        ({"pin": False}, {"pin": True, "preload": False}, {}, 300.0),
    ],
)
def test_what_is_preloaded_stays_unless_it_is_told_to_go(
    profile: dict[str, Any], model: dict[str, Any], defaults: dict[str, Any], idle_timeout_s: float | None
) -> None:
    found = settled(profile, model, defaults)

    assert found.idle_timeout_s == idle_timeout_s
    assert found.is_pinned is (profile or model or defaults).get("pin", False)


def test_times_are_the_nearest_ones() -> None:
    assert (settled().drain_s, settled().lease_s) == (serving.DRAIN_S, serving.LEASE_S)
    found = settled({"drain": "5s"}, {"drain": "6s", "lease": "1m"}, {"lease": "2m"})

    assert (found.drain_s, found.lease_s) == (5.0, 60.0)
    words = {name: ServingSpec.model_fields[name].json_schema_extra[STANDARD] for name in ("drain", "lease")}  # type: ignore[index]
    assert words == {"drain": f"{serving.DRAIN_S:g}s", "lease": f"{serving.LEASE_S / 60:g}m"}


def test_context_is_the_profile_s_or_the_model_s() -> None:
    assert settled({"context_tokens": 2048}).context_tokens == 2048
    assert settled().context_tokens == 4096


def test_arguments_are_joined_key_by_key_and_sorted() -> None:
    found = settled(
        {"arguments": {"threads": 8}},
        {"arguments": {"threads": 4, "no-mmap": True, "samplers": "top_k"}},
        {"arguments": {"no-mmap": False, "prio": 2}},
    )

    assert found.arguments == (("no-mmap", True), ("prio", 2), ("samplers", "top_k"), ("threads", 8))
