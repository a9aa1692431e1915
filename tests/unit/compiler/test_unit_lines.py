"""What is left out of a unit, what is said instead, and what only newer versions of systemd are given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.limits import (
    RESTART_LIMIT,
    RESTART_MAX_S,
    SLOWEST_READ_BYTES_PER_S,
    start_limit_interval_s,
)
from kloros_infra.compiler.sandbox_rules import SANDBOX
from kloros_infra.compiler.unit_lines import COMPANIONS, NEWER, for_version, relaxations, without
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import OLDEST_SYSTEMD, Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.relaxation import Relaxation, SandboxDirective
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.placement.place import place
from tests.factories import a_card, a_catalog, a_model, a_profile, a_sandbox, a_serving, an_instance

REASON = "perf has to read it"
UNIT = "llama@small-cpu_only.service"


def keys_of(catalog: Catalog, unit: str = UNIT) -> dict[str, str]:
    """Emit a catalog and read one of its units."""
    placements = {instance.id: place(instance)[0] for instance in catalog.instances}
    tree = emit(catalog, {id: one for id, one in placements.items() if one}, read_templates(), Layout())
    file = tree[Layout().unit_path(unit)]
    assert isinstance(file, TextFile)
    return dict(unit_keys(file.text))


def with_arguments(**arguments: Any) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return keys_of(a_catalog(an_instance(serving=a_serving(arguments=named))))


def relaxed(*directives: SandboxDirective) -> Relaxation:
    return Relaxation(directives, REASON)


@pytest.mark.parametrize("directive", SandboxDirective)
def test_what_can_be_left_out_is_in_the_sandbox_and_explained(directive: SandboxDirective) -> None:
    profile = a_profile("gpu", a_card()) if directive is SandboxDirective.DEVICE_POLICY else a_profile("gpu")
    units = [
        keys_of(
            a_catalog(
                an_instance(profile=profile),
                sandbox=a_sandbox(relaxed=(relaxed(directive),) if is_relaxed else ()),
            ),
            "llama@small-gpu.service",
        )
        for is_relaxed in (False, True)
    ]
    before, after = units

    gone = {f"Service.{name}" for name in (directive, *COMPANIONS.get(directive, ()))}
    assert before.keys() - after.keys() == gone
    assert after["Unit.X-Kloros-Relaxed"] == f"{directive} (because {REASON})"
    assert directive == "DevicePolicy" or directive in SANDBOX


def test_of_the_two_rules_on_devices_only_the_one_that_is_there_is_left_out() -> None:
    both = relaxed(SandboxDirective.PRIVATE_DEVICES, SandboxDirective.DEVICE_POLICY, SandboxDirective.UMASK)
    sandbox = a_sandbox(relaxed=(both, relaxed(SandboxDirective.PRIVATE_DEVICES)))
    with_cards, without = (relaxations(an_instance(), sandbox, has_cards=has_cards) for has_cards in (True, False))

    assert [one.directives for one in with_cards] == [("DevicePolicy", "UMask")]
    assert [one.directives for one in without] == [("PrivateDevices", "UMask"), ("PrivateDevices",)]


def test_what_is_left_out_for_all_comes_before_what_is_for_one() -> None:
    model = a_model(relaxed=(relaxed(SandboxDirective.UMASK),))
    catalog = a_catalog(
        an_instance(model),
        an_instance(a_model("other"), port=8602),
        sandbox=a_sandbox(relaxed=(relaxed(SandboxDirective.PROTECT_PROC),)),
    )

    assert keys_of(catalog)["Unit.X-Kloros-Relaxed"].split("\n") == [
        f"ProtectProc (because {REASON})",
        f"UMask (because {REASON})",
    ]
    other = keys_of(catalog, "llama@other-cpu_only.service")
    assert other["Unit.X-Kloros-Relaxed"] == f"ProtectProc (because {REASON})"
    assert "Service.UMask" in other


@pytest.mark.parametrize(
    "name", ["numa", "prio", "prio_batch", "cpu_mask", "cpu_range_batch", "cpu_strict", "spec_draft_cpu_mask"]
)
def test_arguments_about_processors_get_their_system_calls(name: str) -> None:
    keys = with_arguments(**{name: 1})

    assert keys["Service.SystemCallFilter"] == "@system-service\n~@privileged"
    said = f"SystemCallFilter, @resources (because of {name.replace('_', '-')} in arguments)"
    assert keys["Unit.X-Kloros-Relaxed"] == said


def test_other_arguments_open_nothing() -> None:
    keys = with_arguments(threads=4, numa=False, cpu_moe=True)

    assert keys["Service.SystemCallFilter"] == "@system-service\n~@privileged @resources"
    assert "Unit.X-Kloros-Relaxed" not in keys
    assert not {"Service.LimitMEMLOCK", "Service.LimitNICE"} & keys.keys()


def test_arguments_get_the_limits_that_they_run_into() -> None:
    assert with_arguments(mlock=True)["Service.LimitMEMLOCK"] == "infinity"
    assert "Service.LimitNICE" not in with_arguments(mlock=True)
    assert with_arguments(prio=2)["Service.LimitNICE"] == "-20"
    assert "Service.LimitMEMLOCK" not in with_arguments(mlock=False)


def test_a_whole_filter_that_is_left_out_says_enough() -> None:
    serving = a_serving(arguments={"numa": "distribute"})
    sandbox = a_sandbox(relaxed=(relaxed(SandboxDirective.SYSTEM_CALL_FILTER),))
    keys = keys_of(a_catalog(an_instance(serving=serving), sandbox=sandbox))

    assert keys["Unit.X-Kloros-Relaxed"] == f"SystemCallFilter (because {REASON})"


def test_each_version_gets_what_it_knows() -> None:
    def of(version: int) -> tuple[str | None, ...]:
        keys = keys_of(a_catalog(systemd_version=version))
        names = ("RestartSteps", "RestartMaxDelaySec", "PrivateTmp", "ProtectControlGroups")
        return tuple(keys.get(f"Service.{name}") for name in names)

    assert of(OLDEST_SYSTEMD) == of(253) == (None, None, "yes", "yes")
    assert of(254) == of(256) == ("3", "30", "yes", "yes")
    assert of(257) == of(258) == ("3", "30", "disconnected", "strict")


@pytest.mark.parametrize("unit", ["kloros-bus.service", "kloros-router.service", "kloros-profile.service"])
def test_our_own_services_get_it_too(unit: str) -> None:
    old, new = (keys_of(a_catalog(systemd_version=version), unit) for version in (252, 257))

    assert {key: new[key] for key in new if new[key] != old[key]} == {
        "Service.PrivateTmp": "disconnected",
        "Service.ProtectControlGroups": "strict",
    }
    assert old.keys() == new.keys()


def test_what_is_left_out_does_not_come_back_with_a_newer_version() -> None:
    sandbox = a_sandbox(relaxed=(relaxed(SandboxDirective.PROTECT_CONTROL_GROUPS),))

    assert "Service.ProtectControlGroups" not in keys_of(a_catalog(sandbox=sandbox, systemd_version=257))


def test_a_value_of_ones_own_stays() -> None:
    text = "".join(f"{newer.directive}=other\n" for newer in NEWER)

    assert for_version(text, 999) == text
    assert without(text, ()) == text


@given(st.integers(0, 500 * 10**9))
def test_with_growing_pauses_a_broken_model_is_still_given_up(weights_bytes: int) -> None:
    slowest_load_s = weights_bytes / SLOWEST_READ_BYTES_PER_S

    assert RESTART_LIMIT * (slowest_load_s + RESTART_MAX_S) < start_limit_interval_s(
        weights_bytes, pause_s=RESTART_MAX_S
    )
