"""Pretended NVIDIA cards for a container: a real systemd-udevd hears of them, sysfs and NVML say what a test wants.

Real PCI devices of this machine stand in. The kernel itself sends their uevents, for whoever writes to a device's
`uevent` file (Linux, Documentation/ABI/testing/sysfs-uevent). In the container, what udev's rule reads of such a device
(`vendor`, `class`) are files of ours, mounted over the kernel's; the bus's list of devices is a folder of ours, so that
a card can go from it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fakes.fakecuda import RTX_3060, RTX_5080, PretendCard, build_fakecuda, pretending
from tests.fakes.nvml_scripted import build as build_nvml
from tests.needed import need
from tests.system.container import Container

UNPACKED_UDEV = Path(sys.prefix) / "udev"
"""Where scripts/test unpacks udev's package on a machine without one."""
DEVICES = Path("/sys/bus/pci/devices")
DISPLAY_CONTROLLER, NVIDIA = "0x030000", "0x10de"
USED_CLASSES = ("0x01", "0x02", "0x03", "0x0c")
"""Of disks, networks, displays and USB, as pci.ids has them."""
UDEVD_UNITS = ("systemd-udevd-control.socket", "systemd-udevd-kernel.socket", "systemd-udevd.service")
UDEVADM = "usr/bin/udevadm"
DRIVERS = "/opt/pretended-cards"
BACKEND = "libggml-fakecuda.so"
LIBRARY = "/usr/lib/libnvidia-ml.so.1"
SAID = "/run/fake-nvml/script"
STAND_INS = "/run/stand-ins"
TOKEN_US = 5000
"""How long a pretended card takes for a token."""


def can_stand_in(device: Path) -> bool:
    """Say whether this machine's own udev does nothing of note when told that a PCI device has gone."""
    return not (device / "class").read_text().startswith(USED_CLASSES)


@dataclass(frozen=True, slots=True)
class StandIn:
    """A PCI device that is taken for a card."""

    name: str
    uuid: str
    device: Path
    """As the kernel has it: below /sys/devices."""
    pretended: PretendCard
    total_mib: int
    """As NVML has it: CUDA sees less."""

    @property
    def address(self) -> str:
        return self.device.name

    def nvml(self, used_mib: int = 0) -> str:
        """Give the line that has NVML know of it."""
        total, used = self.total_mib * 2**20, used_mib * 2**20
        return f"card uuid={self.uuid} pci={self.address} total={total} used={used}"

    def holder(self, pid: int, mib: int, name: str) -> str:
        """Give the line that has NVML know of a process on it."""
        return f"process card={self.uuid} pid={pid} bytes={mib * 2**20} name={name}"


class PretendedCards:
    """Two cards of a container: one that comes and goes, one that stays."""

    def __init__(self, container: Container) -> None:
        self.container = container
        devices = sorted(path.resolve() for path in DEVICES.iterdir() if can_stand_in(path))
        need(len(devices) > 1, "PCI devices that can stand in for cards")
        self.gaming = StandIn("rtx5080", "GPU-5a2b3c4d-0000-1111-2222-333344445555", devices[-1], RTX_5080, 16303)
        self.other = StandIn("rtx3060", "GPU-6a2b3c4d-0000-1111-2222-333344445555", devices[-2], RTX_3060, 12288)
        self._faults: list[str] = []

    @property
    def all(self) -> tuple[StandIn, StandIn]:
        return self.gaming, self.other

    def go(self, card: StandIn) -> float:
        """Let a card vanish; give the time right before, on the monotonic clock."""
        return self._change(card, "remove", is_there=False)

    def come(self, card: StandIn) -> float:
        """Let a card come back; give the time right before."""
        return self._change(card, "add", is_there=True)

    def take_away(self, card: StandIn) -> None:
        """Take a card from the list, and say nothing of it."""
        self._list(card, is_there=False)

    def put_back(self, card: StandIn) -> None:
        """List a card again, and say nothing of it."""
        self._list(card, is_there=True)

    def is_there(self, card: StandIn) -> bool:
        return self._listed(card).exists()

    def uevent(self, card: StandIn, action: str) -> None:
        """Have the kernel tell that something happened to a card."""
        (card.device / "uevent").write_text(action)

    def driver_says(self, *lines: str) -> None:
        """Replace what NVML knows."""
        script = self.container.outside(SAID)
        fresh = script.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in (*lines, *self._faults)))
        fresh.replace(script)

    def driver_is_usual(self) -> None:
        """Have NVML know both cards, and nobody on them."""
        self.driver_says(*(card.nvml() for card in self.all))

    def report_fault(self, card: StandIn, xid: int) -> None:
        """Have the driver report a fault; what it has reported stays in the script, as a line that was read."""
        self._faults.append(f"event card={card.uuid} xid={xid}")
        self.driver_is_usual()

    def run_for_a_bare_event(self, card: StandIn) -> str:
        """Say what udev would do where a removed card is known by its event alone, as its attributes are gone."""
        vendor, event = self.container.outside(f"{STAND_INS}/vendor"), f"{STAND_INS}/uevent"
        self.container.write(event, "PCI_CLASS=30000\nPCI_ID=10DE:2C02\n")
        self.container.run(["mount", "--bind", event, f"{card.device}/uevent"])
        vendor.write_text("\n")
        try:
            done = self.container.run(["udevadm", "test", "--action=remove", str(card.device)])
            return done.stdout + done.stderr
        finally:
            vendor.write_text(f"{NVIDIA}\n")
            self.container.run(["umount", f"{card.device}/uevent"])

    def _change(self, card: StandIn, action: str, *, is_there: bool) -> float:
        begun = time.monotonic()
        self._list(card, is_there=is_there)
        self.uevent(card, action)
        return begun

    def _listed(self, card: StandIn) -> Path:
        return self.container.outside(str(DEVICES / card.address))

    def _list(self, card: StandIn, *, is_there: bool) -> None:
        place = self._listed(card)
        if not is_there:
            shutil.rmtree(place, ignore_errors=True)
        elif not place.exists():
            fresh = place.with_name(f".{card.address}")
            fresh.mkdir()
            (fresh / "vendor").write_text(f"{NVIDIA}\n")
            (fresh / "class").write_text(f"{DISPLAY_CONTROLLER}\n")
            (fresh / "driver").symlink_to("../../drivers/nvidia")
            fresh.rename(place)

    # Putting them there.

    def install(self, drivers: Path) -> None:
        """Make the devices pass for cards, with a driver; start a systemd-udevd."""
        self._stand_in()
        self._put_drivers(drivers)
        self._put_udevd()

    def remove(self) -> None:
        """Undo all of it."""
        run = self.container.run
        run(["systemctl", "stop", *UDEVD_UNITS], check=False)
        run(["systemctl", "unset-environment", *self._variables()])
        hidden = [f"{card.device}/{name}" for card in self.all for name in ("vendor", "class")]
        run(["umount", str(DEVICES), *hidden, "/usr/lib/udev/rules.d"], check=False)
        ours = [f"/run/systemd/system/{unit}" for unit in UDEVD_UNITS]
        ours += [f"/run/systemd/system/{unit}.d" for unit in UDEVD_UNITS]
        if not Path("/", UDEVADM).exists():
            ours += [f"/{UDEVADM}", "/usr/lib/systemd/systemd-udevd"]
        run(["rm", "-rf", "--", DRIVERS, LIBRARY, str(Path(SAID).parent), STAND_INS, *ours])
        run(["systemctl", "daemon-reload"])

    def _stand_in(self) -> None:
        run = self.container.run
        files = {"vendor": NVIDIA, "class": DISPLAY_CONTROLLER}
        for name, text in files.items():
            self.container.write(f"{STAND_INS}/{name}", f"{text}\n")
        for card in self.all:
            for name in files:
                run(["mount", "--bind", f"{STAND_INS}/{name}", f"{card.device}/{name}"])
        run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(DEVICES)])
        for card in self.all:
            self._list(card, is_there=True)

    def _put_drivers(self, drivers: Path) -> None:
        self.container.run(["mkdir", "-p", DRIVERS, str(Path(SAID).parent)])
        self.container.copy_in(drivers / BACKEND, f"{DRIVERS}/{BACKEND}")
        self.container.copy_in(drivers / Path(LIBRARY).name, LIBRARY)
        self.driver_is_usual()
        variables = [f"{name}={value}" for name, value in self._variables().items()]
        self.container.run(["systemctl", "set-environment", *variables])

    def _variables(self) -> dict[str, str]:
        shown = [replace(card.pretended, uuid=card.uuid) for card in self.all]
        return dict(pretending(Path(DRIVERS) / BACKEND, shown, discards=True, token_us=TOKEN_US))

    def _put_udevd(self) -> None:
        """Start a real one that has our rules alone: in this container nothing else is its business."""
        run, outside = self.container.run, self.container.outside
        if not Path("/", UDEVADM).exists():
            need((UNPACKED_UDEV / "bin" / "udevadm").exists(), f"udev, installed or unpacked in {UNPACKED_UDEV}")
            shutil.copy(UNPACKED_UDEV / "bin" / "udevadm", outside(f"/{UDEVADM}"))
            run(["ln", "-sfn", f"/{UDEVADM}", "/usr/lib/systemd/systemd-udevd"])
            for unit in UDEVD_UNITS:
                shutil.copy(UNPACKED_UDEV / "lib/systemd/system" / unit, outside(f"/run/systemd/system/{unit}"))
        for unit in UDEVD_UNITS:
            # It reads /sys, which is not writable here, and writes nothing there.
            self.container.write(
                f"/run/systemd/system/{unit}.d/here.conf", "[Unit]\nConditionPathIsReadWrite=\nConditionPathExists=\n"
            )
        run(["mkdir", "-p", "/usr/lib/udev/rules.d"])
        run(["mount", "-t", "tmpfs", "tmpfs", "/usr/lib/udev/rules.d"])
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "start", *UDEVD_UNITS])


def build_drivers(folder: Path) -> Path:
    """Build what stands in for NVIDIA's drivers into a folder."""
    build_fakecuda(folder)
    return build_nvml(folder)


@contextmanager
def pretended_cards(container: Container, drivers: Path) -> Iterator[PretendedCards]:
    """Lend a container two cards, with the drivers that `build_drivers` built."""
    cards = PretendedCards(container)
    try:
        cards.install(drivers)
        yield cards
    finally:
        cards.remove()


def seconds(values: Sequence[float]) -> str:
    """Write times as they are printed: the median, and the longest."""
    ordered = sorted(values)
    return f"median {ordered[len(ordered) // 2] * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms of {len(ordered)}"
