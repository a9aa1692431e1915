"""What adapters say of a machine, on made trees of sysfs and procfs and made folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.driver_files import driver_cards
from kloros_infra.adapters.host import Host, read_host
from kloros_infra.adapters.installed_servers import PACKAGED, installed_servers
from kloros_infra.adapters.ollama_presence import find_ollama

UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
VGA, AUDIO = "0x030000", "0x040300"


class Bus:
    """A made /sys and /proc."""

    def __init__(self, folder: Path) -> None:
        self.sysfs, self.procfs = folder / "sys", folder / "proc"

    def plug(self, address: str, *, vendor: str = "0x10de", kind: str = VGA, driver: str = "nvidia") -> None:
        device = self.sysfs / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            bound = self.sysfs / "bus/pci/drivers" / driver
            bound.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(bound)

    def drive(self, address: str, *, excluded: str = "No") -> None:
        folder = self.procfs / "driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        text = f"Model: \t\t NVIDIA GeForce RTX 3060\nGPU UUID: \t {UUID}\nGPU Excluded:\t {excluded}\n"
        (folder / "information").write_text(text)

    def obstacles(self) -> list[str]:
        return [card.obstacle for card in driver_cards(self.sysfs, self.procfs)]


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def test_a_card_is_described_by_the_bus_and_the_driver(bus: Bus) -> None:
    bus.plug("0000:04:00.0", kind="0x030200")
    bus.plug("0000:04:00.1", kind=AUDIO)
    bus.plug("0000:05:00.0", vendor="0x1002")
    bus.drive("0000:04:00.0")
    (card,) = driver_cards(bus.sysfs, bus.procfs)

    assert (card.name, card.uuid, card.pci) == ("NVIDIA GeForce RTX 3060", UUID, "0000:04:00.0")
    assert (card.vram_bytes, card.obstacle) == (None, "")


def test_a_card_that_cuda_cannot_use_says_why(bus: Bus) -> None:
    bus.plug("0000:01:00.0", driver="vfio-pci")
    bus.plug("0000:02:00.0", driver="nouveau")
    bus.plug("0000:03:00.0", driver="")
    bus.plug("0000:04:00.0")
    bus.drive("0000:04:00.0", excluded="Yes")
    for told, word in zip(bus.obstacles(), ("virtual machine", "nouveau", "no driver", "exclude"), strict=True):
        assert word in told


def test_a_card_unplugged_while_it_is_read_is_absent(bus: Bus) -> None:
    (bus.sysfs / "bus/pci/devices/0000:04:00.0").mkdir(parents=True)
    assert bus.obstacles() == []


def test_processor_and_memory_are_read(tmp_path: Path) -> None:
    cpu = "processor\t: 0\nmodel name\t: AMD  Ryzen 7\nflags\t: x\n\nprocessor\t: 1\nmodel name\t: AMD  Ryzen 7\n"
    (tmp_path / "cpuinfo").write_text(cpu)
    (tmp_path / "meminfo").write_text("MemTotal:       16384 kB\nMemFree:  1 kB\n")
    assert read_host(tmp_path) == Host("AMD Ryzen 7", 2, 2**24)


def test_what_proc_does_not_tell_is_empty(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert read_host(tmp_path) == Host("", 1, 0)


def test_this_machine_has_a_processor_and_memory() -> None:
    host = read_host()
    assert host.thread_count >= 1
    assert host.memory_bytes > 2**28


def store(folder: Path, *names: str) -> Path:
    for name in names:
        manifest = folder / "manifests" / name
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text("{}")
    return folder


def test_an_ollama_store_is_known_by_its_models(tmp_path: Path) -> None:
    names = (
        "registry.ollama.ai/library/llama3.2/3b",
        "registry.ollama.ai/someone/tuned/latest",
        "hf.co/unsloth/Qwen3-8B-GGUF/Q4_K_M",
        "registry.ollama.ai/library/llama3.2/.3b.swp",
        "registry.ollama.ai/stray",
    )
    there = store(tmp_path / "there", *names)
    found = find_ollama((tmp_path / "nowhere", store(tmp_path / "empty"), there))

    assert found is not None
    assert found.store == str(there)
    assert found.models == ("hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M", "llama3.2:3b", "someone/tuned:latest")
    assert find_ollama((tmp_path / "nowhere",)) is None


def test_llama_servers_are_listed_once_and_only_if_they_can_be_run(tmp_path: Path) -> None:
    good, plain, on_path = (tmp_path / name for name in ("good", "plain", "path"))
    for folder, mode in ((good, 0o755), (plain, 0o644), (on_path, 0o755)):
        folder.mkdir()
        (folder / "llama-server").write_text("#!/bin/sh\n")
        (folder / "llama-server").chmod(mode)

    found = installed_servers((good, plain, tmp_path / "none"), str(on_path))
    assert [one for one in found if one != PACKAGED] == [f"{good}/llama-server", f"{on_path}/llama-server"]
    again = installed_servers((good,), str(good))
    assert [one for one in again if one != PACKAGED] == [f"{good}/llama-server"]
