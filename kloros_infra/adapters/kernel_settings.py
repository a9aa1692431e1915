"""Settings of the kernel: its limits (proc_sys_fs(5)) and its control groups (cgroups(7))."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters.pci import PROCFS, SYSFS
from kloros_infra.doctor.facts import CgroupVersion, KernelLimits


def kernel_limits(procfs: Path = PROCFS) -> KernelLimits:
    """Read the limits; raise OSError where they are hidden."""
    folder = procfs / "sys" / "fs"
    return KernelLimits(_number(folder / "nr_open"), _number(folder / "inotify" / "max_user_instances"))


def cgroup_version(sysfs: Path = SYSFS) -> CgroupVersion:
    """Say which control groups are mounted, as systemd tells them apart (systemd, CGROUP_DELEGATION)."""
    folder = sysfs / "fs" / "cgroup"
    if (folder / "cgroup.controllers").exists():
        return CgroupVersion.UNIFIED
    if (folder / "unified" / "cgroup.procs").exists():
        return CgroupVersion.HYBRID
    return CgroupVersion.LEGACY if (folder / "memory").is_dir() else CgroupVersion.NONE


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))
