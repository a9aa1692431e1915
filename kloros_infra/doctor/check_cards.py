"""Checks of the cards themselves: that they are there, sound and as declared, and what opens them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.check_driver import NO_DRIVER, without_cards
from kloros_infra.doctor.facts import Cards, Devices, Facts, Generation, NeededCard, Unseen
from kloros_infra.ir.card_facts import CardReading
from kloros_infra.ir.names import NODES_UNIT

MIB = 2**20
# What CUDA sees is less than what is sold by up to some hundred MiB, and is known for few cards.
VRAM_DIFFERS_SHARE = 0.05

NVML_SILENT = Kind(
    "KI937",
    Status.FAILURE,
    "What others use of the cards and whether they have failed is asked of NVML; without it only presence is known.",
    "See that the driver's library (libnvidia-ml.so.1) is here and of the kernel driver's version: after an update of "
    "the driver, reboot.",
)
CARD_ABSENT = Kind(
    "KI938",
    Status.WARNING,
    "Profiles that need this card are not used until it is there.",
    "{fix}",
)
CARD_FAILED = Kind(
    "KI939",
    Status.FAILURE,
    "A card that has failed gives wrong answers or none, so no model is started on it.",
    "Look for Xid lines in `journalctl -k`, reset or power it off, then run `kloros-infra gpu clear {card}`.",
)
VRAM_DIFFERS = Kind(
    "KI940",
    Status.WARNING,
    "Models are placed by what models.yaml says: too much fails when a model is loaded, too little leaves some unused.",
    "Write `vram: {mib}MiB` below gpus.{card} in models.yaml, then apply.",
)
CARD_BRAKED = Kind(
    "KI941",
    Status.WARNING,
    "A card that is too hot runs at a part of its speed, and answers take as much longer.",
    "Clean its fans and filters, mind the flow of air, or lower its power limit: sudo nvidia-smi -pl WATTS.",
)
NOT_PERSISTENT = Kind(
    "KI942",
    Status.WARNING,
    "Without it the driver puts a card out of use whenever nobody has it open: each start of a model then takes some "
    "seconds more.",
    "sudo systemctl enable --now nvidia-persistenced",
)
NODES_MISSING = Kind(
    "KI943",
    Status.FAILURE,
    "Programs reach the cards by these files. They are not made by udev but by a helper of the driver's, which a "
    "sandboxed service cannot run.",
    "sudo nvidia-modprobe -c 0 -u; once applied, " + NODES_UNIT + " does so at boot.",
)
NODES_CLOSED = Kind(
    "KI944",
    Status.FAILURE,
    "Each model runs as a user of its own, which has to be able to open the card.",
    "Write `options nvidia NVreg_DeviceFileMode=0666` into /etc/modprobe.d/nvidia.conf and take other NVreg_DeviceFile "
    "options out, then reboot.",
)
CLASS_MISSING = Kind(
    "KI945",
    Status.FAILURE,
    "The sandbox opens devices by their class (DeviceAllow=char-nvidia*), and systemd passes over classes that are "
    "not there when a unit starts.",
    "sudo modprobe nvidia-uvm, then restart the models.",
)
NO_UVM_AT_BOOT = Kind(
    "KI946",
    Status.WARNING,
    "If nvidia-uvm comes after a model is started, that one runs on the processor, and says that it is well.",
    "`kloros-infra apply` installs " + NODES_UNIT + "; until then: "
    "echo nvidia-uvm | sudo tee /etc/modules-load.d/nvidia-uvm.conf",
)
LOOK_HERE = (
    "If it is lent to a virtual machine or switched off, nothing is to be done. Otherwise compare gpus.{card} in "
    "models.yaml with `nvidia-smi -L` and `lspci -D`."
)
LOOK_THERE = "If its host is switched off, nothing is to be done. Otherwise run `kloros-infra status` on that host."
CONTROL_NODE, UVM_NODE = "/dev/nvidiactl", "/dev/nvidia-uvm"
UVM_CLASS = "nvidia-uvm"


def check_nvml(facts: Facts) -> Iterator[Finding]:
    """Say whether NVML answers."""
    cards = facts.cards
    if not facts.wanted.cards:
        yield without_cards(facts)
    elif facts.driver is None:
        yield fine(NO_DRIVER)
    elif isinstance(cards, Unseen):
        yield not_seen(cards)
    elif cards.reading.trouble or cards.reading.is_stale:
        yield found(NVML_SILENT, f"NVML does not answer: {cards.reading.trouble or 'not in time'}")
    else:
        yield fine("NVML answers")


def check_cards(facts: Facts) -> Iterator[Finding]:
    """Say of each card whether it is there, sound and as declared; of those of other hosts whether they are lent."""
    cards, lent = facts.cards, facts.wanted.lent_cards
    if not facts.wanted.cards and not lent:
        yield without_cards(facts)
    elif isinstance(cards, Unseen):
        yield not_seen(cards)
    else:
        quarantined = _quarantined(facts)
        for card in facts.wanted.cards:
            yield from _card(card, cards, quarantined)
        for name in lent:
            absent = found(CARD_ABSENT, f"{name} is not lent by its host now", fix=LOOK_THERE)
            yield fine(f"{name} is lent by its host") if name in cards.present else absent


def _quarantined(facts: Facts) -> Mapping[str, str]:
    """Say why cards are in quarantine, by the last report: of what happened before, the driver tells nothing now."""
    report = None if isinstance(facts.choice, Unseen) else facts.choice.report
    return {} if report is None else {one.card: one.reason for one in report.cards if one.state == "quarantined"}


def _card(card: NeededCard, cards: Cards, quarantined: Mapping[str, str]) -> Iterator[Finding]:
    if card.name not in cards.present:
        fix = LOOK_HERE.format(card=card.name)
        yield found(CARD_ABSENT, f"{card.name} is not in this machine now", fix=fix)
        return
    reading = next((one for one in cards.reading.cards if one.card == card.name), CardReading(card.name))
    problems = list(_problems(card, reading, quarantined.get(card.name)))
    size = f", {reading.total_bytes // MIB} MiB" if reading.total_bytes is not None else ""
    yield from problems or [fine(f"{card.name} is there{size}")]


def _problems(card: NeededCard, reading: CardReading, quarantine: str | None) -> Iterator[Finding]:
    failures = [fault.kind for fault in reading.faults] if quarantine is None else [quarantine]
    for words in failures:
        yield found(CARD_FAILED, f"{card.name} has failed: {words}", card=card.name)
    total = reading.total_bytes
    if total is not None and abs(total - card.vram_bytes) > VRAM_DIFFERS_SHARE * card.vram_bytes > 0:
        mib = str(total // MIB)
        detail = f"{card.name} has {mib} MiB, and models are placed for {card.vram_bytes // MIB} MiB"
        yield found(VRAM_DIFFERS, detail, card=card.name, mib=mib)


def check_throttling(facts: Facts) -> Iterator[Finding]:
    """Say whether heat slows a card down."""
    cards = facts.cards
    brakes = cards if isinstance(cards, Unseen) else cards.brakes
    if not facts.wanted.cards:
        yield without_cards(facts)
    elif facts.driver is None:
        yield fine(NO_DRIVER)
    elif isinstance(brakes, Unseen):
        yield not_seen(brakes)
    else:
        yield from [found(CARD_BRAKED, f"{one.card}: {one.reason}") for one in brakes] or [fine("no card is too hot")]


def check_persistence(facts: Facts) -> Iterator[Finding]:
    """Say whether the driver keeps cards ready."""
    driver = facts.driver
    if not facts.wanted.cards:
        yield without_cards(facts)
    elif isinstance(driver, Unseen):
        yield not_seen(driver)
    elif driver is None:
        yield fine(NO_DRIVER)
    elif driver.has_persistence_daemon:
        yield fine("nvidia-persistenced runs")
    else:
        yield found(NOT_PERSISTENT, "nvidia-persistenced does not run")


def check_devices(facts: Facts) -> Iterator[Finding]:
    """Say whether the units' users can open the cards."""
    devices = facts.devices
    if not facts.wanted.cards:
        yield without_cards(facts)
    elif facts.driver is None:
        yield fine(NO_DRIVER)
    elif isinstance(devices, Unseen):
        yield not_seen(devices)
    else:
        problems = [*_missing_devices(devices, facts), *_closed_devices(devices)]
        yield from problems or [fine(f"{len(devices.nodes)} device files, which every user may open")]


def _missing_devices(devices: Devices, facts: Facts) -> Iterator[Finding]:
    """Say what is not there; before the first apply, that it will be made."""
    paths = [node.path for node in devices.nodes]
    missing = [path for path in (CONTROL_NODE, UVM_NODE) if path not in paths]
    if _is_any_here(facts) and not any(path.removeprefix("/dev/nvidia").isdecimal() for path in paths):
        missing.append("/dev/nvidia0")
    classless = UVM_CLASS not in devices.classes
    if (missing or classless) and NODES_UNIT in facts.wanted.units and facts.generation == Generation():
        yield fine(f"{NODES_UNIT} will make {', '.join(missing) or UVM_CLASS}")
        return
    if missing:
        yield found(NODES_MISSING, f"{', '.join(missing)} missing")
    if classless:
        yield found(CLASS_MISSING, f"/proc/devices has no {UVM_CLASS}")


def _is_any_here(facts: Facts) -> bool:
    """Say whether any of the needed cards is in this machine now."""
    cards = facts.cards
    return isinstance(cards, Cards) and any(card.name in cards.present for card in facts.wanted.cards)


def _closed_devices(devices: Devices) -> Iterator[Finding]:
    closed = [f"{node.path} ({node.mode:04o})" for node in devices.nodes if not node.is_open_to_all]
    if closed:
        yield found(NODES_CLOSED, f"not every user may open {', '.join(closed)}")


def check_uvm_at_boot(facts: Facts) -> Iterator[Finding]:
    """Say whether nvidia-uvm is there before models are started at boot."""
    devices = facts.devices
    if not facts.wanted.cards:
        yield without_cards(facts)
    elif NODES_UNIT in facts.wanted.units:
        yield fine(f"{NODES_UNIT} loads nvidia-uvm before models are started")
    elif isinstance(devices, Unseen):
        yield not_seen(devices)
    elif devices.boot_files:
        yield fine(f"{devices.boot_files[0]} loads nvidia-uvm at boot")
    else:
        yield found(NO_UVM_AT_BOOT, "nothing loads nvidia-uvm at boot")
