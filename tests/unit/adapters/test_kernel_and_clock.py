"""The kernel's limits and control groups, the clock, and the journal's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.journal_folder import has_persistent_journal
from kloros_infra.adapters.kernel_settings import cgroup_version, kernel_limits
from kloros_infra.adapters.wall_clock import is_clock_right, time_zone
from kloros_infra.doctor.facts import CgroupVersion, KernelLimits


def test_limits_are_those_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/inotify").mkdir(parents=True)
    (tmp_path / "sys/fs/nr_open").write_text("1048576\n")
    (tmp_path / "sys/fs/inotify/max_user_instances").write_text("128\n")

    assert kernel_limits(tmp_path) == KernelLimits(1_048_576, 128)
    assert kernel_limits().open_files > 0
    with pytest.raises(FileNotFoundError):
        kernel_limits(tmp_path / "sys")


@pytest.mark.parametrize(
    ("files", "version"),
    [
        (("cgroup.controllers", "memory.stat"), CgroupVersion.UNIFIED),
        (("unified/cgroup.procs", "memory/tasks"), CgroupVersion.HYBRID),
        (("memory/tasks",), CgroupVersion.LEGACY),
        ((), CgroupVersion.NONE),
    ],
)
def test_control_groups_are_told_apart(tmp_path: Path, files: tuple[str, ...], version: CgroupVersion) -> None:
    for name in files:
        file = tmp_path / "fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    assert cgroup_version(tmp_path) is version


@pytest.mark.parametrize(
    ("target", "name", "zone"),
    [
        ("/usr/share/zoneinfo/Europe/Vienna", None, "Europe/Vienna"),
        ("../usr/share/zoneinfo/UTC", None, "UTC"),
        ("/somewhere/else", None, None),
        ("/usr/share/zoneinfo", None, None),
        (None, "America/New_York\n", "America/New_York"),
        (None, "\n", None),
        (None, None, None),
    ],
)
def test_the_zone_is_the_one_that_was_set(
    tmp_path: Path, target: str | None, name: str | None, zone: str | None
) -> None:
    (tmp_path / "etc").mkdir()
    if target is not None:
        (tmp_path / "etc/localtime").symlink_to(target)
    if name is not None:
        (tmp_path / "etc/timezone").write_text(name)

    assert time_zone(tmp_path) == zone


def test_the_kernel_says_how_its_clock_is() -> None:
    assert is_clock_right() in (True, False)


def test_a_journal_on_the_disk_has_a_folder_of_the_machine(tmp_path: Path) -> None:
    assert not has_persistent_journal(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "var/log/journal").mkdir(parents=True)
    assert not has_persistent_journal(tmp_path)
    (tmp_path / "var/log/journal/0123456789abcdef0123456789abcdef").mkdir()
    assert has_persistent_journal(tmp_path)
