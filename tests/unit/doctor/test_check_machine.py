"""Checks of the machine, its disk and its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.doctor.facts import CgroupVersion, KernelLimits, Room
from tests.unit.doctor.healthy import GIB, HEALTHY, MACHINE, checks, codes, line, wants

ROOM = Room("/weights", 20 * GIB, "/state", GIB)


@pytest.mark.parametrize("name", ["systemd", "cgroup", "journal"])
def test_the_embedded_supervisor_needs_no_systemd(name: str) -> None:
    bare = replace(MACHINE, systemd=None, cgroup=CgroupVersion.LEGACY, has_persistent_journal=False)

    assert line(name, wanted=wants(has_systemd=False), machine=bare).startswith("not needed")


def test_systemd_runs_and_is_new_enough() -> None:
    assert line("systemd") == "257"
    assert codes("systemd", machine=replace(MACHINE, systemd=None)) == ["KI953"]
    assert codes("systemd", machine=replace(MACHINE, is_booted_with_systemd=False)) == ["KI953"]
    assert line("systemd", wanted=wants(oldest_systemd=258)) == "systemd 257, and the units are written for 258"


@pytest.mark.parametrize("version", [CgroupVersion.HYBRID, CgroupVersion.LEGACY, CgroupVersion.NONE])
def test_old_control_groups_are_a_warning(version: CgroupVersion) -> None:
    (check,) = checks("cgroup", machine=replace(MACHINE, cgroup=version))

    assert check.code == "KI954"
    assert version in check.detail


def test_memory_is_held_against_what_models_take() -> None:
    assert line("memory") == "64.0 GiB"
    assert codes("memory", machine=replace(MACHINE, memory_bytes=0)) == ["KI930"]
    needed = {"max": 10 * GIB, "mid": 65 * GIB}
    assert line("memory", wanted=wants(memory_bytes=needed)) == "there are 64.0 GiB, and under mid models take 65.0 GiB"


def test_limits_of_the_kernel_are_held_against_those_of_the_units() -> None:
    found = checks("limits", limits=KernelLimits(1024, 16))

    assert [(check.code, check.detail) for check in found] == [
        ("KI956", "fs.nr_open is 1024, 65536 are needed"),
        ("KI956", "fs.inotify.max_user_instances is 16, 64 are needed"),
    ]
    assert "fs.nr_open = 65536" in found[0].fix


def test_clock_zone_and_journal() -> None:
    assert codes("clock", is_clock_right=False) == ["KI957"]
    assert codes("time_zone", machine=replace(MACHINE, zone=None)) == ["KI958"]
    assert line("time_zone") == "Europe/Vienna"
    assert codes("journal", machine=replace(MACHINE, has_persistent_journal=False)) == ["KI959"]


@pytest.mark.parametrize(
    ("missing_gib", "room", "expected"),
    [
        (15, ROOM, []),
        (16, ROOM, ["KI961"]),
        (20, ROOM, ["KI961"]),
        (21, ROOM, ["KI960"]),
        (0, replace(ROOM, state_bytes=2**20), ["KI960"]),
        (21, replace(ROOM, state_bytes=2**20), ["KI960", "KI960"]),
    ],
)
def test_room_is_held_against_what_is_to_come(missing_gib: int, room: Room, expected: list[str]) -> None:
    assert codes("disk", wanted=wants(missing_weights_bytes=missing_gib * GIB), room=room) == expected


def test_sizes_are_told_in_words_that_fit() -> None:
    found = checks("disk", wanted=wants(missing_weights_bytes=21 * GIB), room=replace(ROOM, state_bytes=2**20))

    assert found[0].detail == "20.0 GiB are free in /weights, and 21.0 GiB of weights are to come"
    assert found[1].detail == "1 MiB are free in /state"


def test_weights_that_are_missing_or_not_pinned_are_named() -> None:
    assert line("weights") == "3 in the store, whole by their sizes"
    assert line("weights", wanted=replace(HEALTHY.wanted, source="")).startswith("not looked at")
    found = checks("weights", wanted=wants(missing_weights=("a@1", "b@1", "c@1", "d@1"), unpinned_weights=("e@1",)))
    assert [(check.code, check.detail) for check in found] == [
        ("KI962", "a@1, b@1, c@1 and 1 more: not in the store, or not whole"),
        ("KI962", "e@1: not pinned by the lock"),
    ]
    assert "apply" in found[0].fix
    assert "lock" in found[1].fix
    assert codes("weights", wanted=wants(missing_weights=("a@1",))) == ["KI962"]
