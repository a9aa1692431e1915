"""Names of units, held to systemd-escape: none has a character that systemd would write otherwise in a unit's name."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kloros_infra.ir.names import (
    BUS_UNIT,
    LLM_TARGET,
    NAME_PATTERN,
    PROFILE_PATTERN,
    PROFILE_UNIT,
    ROUTER_UNIT,
    InstanceId,
    profile_target,
)
from tests.needed import need

INSTANCES = st.builds(
    InstanceId,
    model=st.from_regex(NAME_PATTERN, fullmatch=True),
    profile=st.from_regex(PROFILE_PATTERN, fullmatch=True),
)
# Each call of the program takes as many names as there are.
BATCHES = st.lists(INSTANCES, min_size=1, max_size=60)
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def systemd_escape(*words: str) -> list[str]:
    program = shutil.which("systemd-escape")
    need(program is not None, "systemd-escape (apt-get install systemd)")
    assert program
    return (
        subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout.split("\n")[0].split(" ")
    )


@FEW
@given(BATCHES)
def test_units_of_instances_are_names_that_systemd_takes_as_they_are(batch: list[InstanceId]) -> None:
    units = [unit for instance in batch for unit in (instance.unit, profile_target(instance.profile))]
    assert systemd_escape("--mangle", "--", *units) == units
    # systemd.unit(5): a name of 255 characters at most.
    assert max(map(len, units)) <= 255


@FEW
@given(BATCHES)
def test_names_come_back_from_their_escaped_form(batch: list[InstanceId]) -> None:
    names = [name for instance in batch for name in (instance.model, instance.profile, str(instance))]
    escaped = systemd_escape("--", *names)
    assert systemd_escape("--unescape", "--", *escaped) == names

    units = systemd_escape("--template=llama@.service", "--", *names)
    assert systemd_escape("--unescape", "--template=llama@.service", "--", *units) == names


@FEW
@given(BATCHES)
def test_an_instance_is_read_back_from_its_units_name(batch: list[InstanceId]) -> None:
    """The last hyphen is the joint: no two instances share a unit."""
    for instance in batch:
        found = re.fullmatch(r"llama@(.+)-([^-]+)\.service", instance.unit)
        assert found
        assert InstanceId(found[1], found[2]) == instance


@pytest.mark.parametrize("unit", [BUS_UNIT, ROUTER_UNIT, PROFILE_UNIT, LLM_TARGET])
def test_our_own_units_are_names_that_systemd_takes_as_they_are(unit: str) -> None:
    assert systemd_escape("--mangle", "--", unit) == [unit]
