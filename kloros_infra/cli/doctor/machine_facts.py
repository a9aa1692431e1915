"""What is asked of the machine itself."""

from __future__ import annotations

import os
from pathlib import Path

from kloros_infra.adapters.host import read_host
from kloros_infra.adapters.journal_folder import has_persistent_journal
from kloros_infra.adapters.kernel_settings import cgroup_version
from kloros_infra.adapters.systemd import is_available
from kloros_infra.adapters.systemd_version import installed_systemd
from kloros_infra.adapters.wall_clock import time_zone
from kloros_infra.cli.doctor.card_facts import Kernel
from kloros_infra.cli.doctor.project_view import View
from kloros_infra.doctor.facts import Machine, Room


def see_machine(kernel: Kernel) -> Machine:
    """Look at systemd, control groups, memory, zone and journal."""
    return Machine(
        systemd=installed_systemd(),
        is_booted_with_systemd=is_available(),
        cgroup=cgroup_version(kernel.sysfs),
        memory_bytes=read_host(kernel.procfs).memory_bytes,
        zone=time_zone(),
        has_persistent_journal=has_persistent_journal(),
    )


def see_room(view: View) -> Room:
    """Ask how much is free where weights and generations are, or will be."""
    root, layout = view.where.root, view.where.layout
    weights, state = root / layout.weights, root / layout.generations
    return Room(str(weights), _free_bytes(weights), str(state), _free_bytes(state))


def _free_bytes(folder: Path) -> int:
    """Say what any user may still write below a folder, which need not be there yet (statvfs(3))."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    found = os.statvfs(there)
    return found.f_bavail * found.f_frsize
