"""NVIDIA's device files, the classes of devices that the kernel has, and what loads nvidia-uvm at boot."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kloros_infra.adapters.pci import PROCFS
from kloros_infra.doctor.facts import DeviceNode, Devices

# systemd looks into these, in this order (modules-load.d(5)).
MODULE_FOLDERS = ("etc/modules-load.d", "run/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d")
# A module's name is the same with either stroke (modprobe(8)).
_UVM = re.compile(r"^\s*nvidia[-_]uvm\s*$", re.MULTILINE)


def read_devices(root: Path = Path("/"), procfs: Path = PROCFS) -> Devices:
    """List what there is; nothing where NVIDIA's driver is not."""
    return Devices(tuple(_nodes(root / "dev")), tuple(_classes(procfs / "devices")), tuple(_boot_files(root)))


def _nodes(folder: Path) -> Iterator[DeviceNode]:
    for file in sorted(folder.glob("nvidia*")):
        with suppress(FileNotFoundError):  # taken away since
            status = file.stat()
            if stat.S_ISCHR(status.st_mode):
                yield DeviceNode(f"/dev/{file.name}", stat.S_IMODE(status.st_mode))


def _classes(file: Path) -> Iterator[str]:
    """Name the classes of character devices: lines of a number and a name (proc_devices(5))."""
    for line in file.read_text(errors="replace").splitlines():
        _, _, name = line.strip().partition(" ")
        if name.startswith("nvidia"):
            yield name


def _boot_files(root: Path) -> Iterator[str]:
    """Name the files that load nvidia-uvm; Debian's /etc/modules is a link into the first folder."""
    for folder in MODULE_FOLDERS:
        for file in sorted((root / folder).glob("*.conf")):
            with suppress(OSError):
                if _UVM.search(file.read_text(errors="replace")):
                    yield f"/{folder}/{file.name}"
