"""Which cards are present, on a made tree of sysfs and procfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.pci import present_cards
from kloros_infra.ir.catalog import Card
from tests.factories import a_card, kloros_cards

UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
# As the driver writes it (branch 580).
INFORMATION = """Model: \t\t NVIDIA GeForce RTX 3060
IRQ:   \t\t 45
GPU UUID: \t {uuid}
Video BIOS: \t 94.06.2f.00.b2
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:04:00.0
Device Minor: \t 0
GPU Excluded:\t {excluded}
"""


class Machine:
    """A made /sys and /proc."""

    def __init__(self, folder: Path) -> None:
        self.sysfs = folder / "sys"
        self.procfs = folder / "proc"

    def plug(self, address: str, *, vendor: str = "0x10de", driver: str = "nvidia") -> None:
        device = self.sysfs / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text("0x030000\n")
        bound = self.sysfs / "bus/pci/drivers" / driver
        bound.mkdir(parents=True, exist_ok=True)
        (device / "driver").symlink_to(bound)

    def drive(self, address: str, *, uuid: str = UUID, excluded: str = "No") -> None:
        folder = self.procfs / "driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(INFORMATION.format(uuid=uuid, excluded=excluded))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def present(machine: Machine, *cards: Card) -> frozenset[str]:
    return present_cards(cards or kloros_cards(), machine.sysfs, machine.procfs)


def test_a_machine_without_gpus_has_none(machine: Machine) -> None:
    assert present(machine) == frozenset()


def test_cards_are_found_by_address(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    machine.plug("0000:07:00.0", driver="nouveau")
    assert present(machine) == {"rtx3060", "gtx1080ti"}


def test_another_vendors_device_at_the_address_is_not_the_card(machine: Machine) -> None:
    machine.plug("0000:04:00.0", vendor="0x1002")
    assert present(machine) == frozenset()


def test_a_card_lent_to_a_virtual_machine_is_not_here(machine: Machine) -> None:
    machine.plug("0000:04:00.0", driver="vfio-pci")
    assert present(machine) == frozenset()


def test_an_unreadable_vendor_is_no_card(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    (machine.sysfs / "bus/pci/devices/0000:04:00.0/vendor").write_bytes(b"\xff\xfe")
    assert present(machine) == frozenset()


def test_a_card_is_found_by_uuid_wherever_it_sits(machine: Machine) -> None:
    machine.drive("0000:0a:00.0")
    assert present(machine, a_card(uuid=UUID, pci=None)) == {"rtx3060"}
    assert present(machine, a_card(uuid=UUID.replace("0", "1"), pci=None)) == frozenset()


def test_an_excluded_card_and_one_that_the_driver_cannot_name_are_not_found_by_uuid(machine: Machine) -> None:
    machine.drive("0000:04:00.0", excluded="Yes")
    machine.drive("0000:07:00.0", uuid="GPU-????????-????-????-????-????????????")
    assert present(machine, a_card(uuid=UUID, pci=None)) == frozenset()


def test_the_address_decides_where_the_driver_does_not_know_the_uuid(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    assert present(machine, a_card(uuid=UUID)) == {"rtx3060"}


def test_another_card_in_its_place_is_not_the_card(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    machine.drive("0000:04:00.0", uuid=UUID.replace("0", "1"))
    assert present(machine, a_card(uuid=UUID)) == frozenset()
    assert present(machine, a_card(uuid=None)) == {"rtx3060"}


def test_a_card_whose_uuid_the_driver_has_not_read_is_the_one_that_belongs_there(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    machine.drive("0000:04:00.0", uuid="GPU-????????-????-????-????-????????????")
    assert present(machine, a_card(uuid=UUID)) == {"rtx3060"}


def test_a_card_unplugged_while_it_is_read_is_absent(machine: Machine) -> None:
    (machine.procfs / "driver/nvidia/gpus/0000:04:00.0/information").mkdir(parents=True)
    assert present(machine, a_card(uuid=UUID, pci=None)) == frozenset()


def test_a_card_without_identity_is_never_present(machine: Machine) -> None:
    machine.plug("0000:04:00.0")
    assert present(machine, a_card(uuid=None, pci=None)) == frozenset()
