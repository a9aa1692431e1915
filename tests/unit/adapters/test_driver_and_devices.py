"""NVIDIA's driver and its device files, as the kernel and the driver's helper show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.nvidia_devices import read_devices
from kloros_infra.adapters.nvidia_driver import read_driver
from kloros_infra.doctor.facts import DeviceNode, Devices, Driver

# As public reports quote the file: nixGL's issues 121 and 186, Hyprland's pull request 6715, driver 535 of Ubuntu.
OPEN = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder@U16-A24-9-2)  Thu Oct 10
GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)
"""
OPEN_OF_ANOTHER_TONGUE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.58  Release Build  Сб 29 июн\n"
CLOSED = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.154.05  Thu Dec 28 15:37:48 UTC 2023
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
CHARACTER_DEVICES = """\
Character devices:
  1 mem
 10 misc
195 nvidia
195 nvidiactl
234 nvidia-nvswitch
511 nvidia-uvm

Block devices:
259 blkext
"""


@pytest.mark.parametrize(
    ("text", "version", "is_open"),
    [(OPEN, "565.57.01", True), (OPEN_OF_ANOTHER_TONGUE, "555.58", True), (CLOSED, "535.154.05", False)],
)
def test_the_driver_names_its_version_and_its_kind(tmp_path: Path, text: str, version: str, is_open: bool) -> None:
    file = tmp_path / "proc/driver/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text(text)

    driver = read_driver(tmp_path / "proc", tmp_path / "run")
    assert driver == Driver(version, is_open, has_persistence_daemon=False)
    assert driver.branch == int(version[:3])


def test_its_daemon_is_seen(tmp_path: Path) -> None:
    for folder in ("proc/driver/nvidia", "run/nvidia-persistenced"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(CLOSED)
    (tmp_path / "run/nvidia-persistenced/socket").touch()

    driver = read_driver(tmp_path / "proc", tmp_path / "run")
    assert driver == Driver("535.154.05", is_open=False)


def test_no_driver_and_one_that_says_something_else(tmp_path: Path) -> None:
    assert read_driver(tmp_path) is None
    file = tmp_path / "driver/nvidia/version"
    file.parent.mkdir(parents=True)
    file.write_text("NVRM version: tomorrow's\n")
    with pytest.raises(OSError, match="does not name a version"):
        read_driver(tmp_path)


def test_devices_classes_and_what_loads_the_module(tmp_path: Path) -> None:
    for folder in ("dev/nvidia-caps", "proc", "etc/modules-load.d", "usr/lib/modules-load.d"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).symlink_to("/dev/null")
    (tmp_path / "dev/nvidia1").symlink_to("/dev/gone")
    (tmp_path / "proc/devices").write_text(CHARACTER_DEVICES)
    (tmp_path / "etc/modules-load.d/other.conf").write_text("# nvidia-uvm\nnvidia-uvm-not\n")
    (tmp_path / "etc/modules-load.d/unreadable.conf").symlink_to(tmp_path / "dev")
    (tmp_path / "usr/lib/modules-load.d/nvidia.conf").write_text("nvidia\n nvidia_uvm\n")

    assert read_devices(tmp_path, tmp_path / "proc") == Devices(
        nodes=tuple(DeviceNode(f"/dev/{name}", 0o666) for name in ("nvidia-uvm", "nvidia0", "nvidiactl")),
        classes=("nvidia", "nvidiactl", "nvidia-nvswitch", "nvidia-uvm"),
        boot_files=("/usr/lib/modules-load.d/nvidia.conf",),
    )


def test_this_machine_can_be_looked_at() -> None:
    assert isinstance(read_devices(), Devices)
    assert isinstance(read_driver(), Driver | None)
