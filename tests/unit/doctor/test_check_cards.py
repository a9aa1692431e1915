"""Checks of driver, kernel modules and cards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.doctor.facts import Brake, Cards, Choice, DeviceNode, Devices, Driver, Generation, NeededCard, Unseen
from kloros_infra.ir.card_facts import CardReading, DriverReading, Fault, FaultKind
from kloros_infra.ir.cards_report import CardsReport, ReportedCard
from tests.unit.doctor.healthy import (
    CLOSED_580,
    DEVICES,
    GIB,
    GTX_1080_TI,
    NODES,
    OPEN_580,
    RTX_3060,
    RTX_5080,
    STRANGE,
    checks,
    codes,
    line,
    wants,
)

KEPLER = NeededCard("k80", (3, 7))
HIDDEN = Unseen("nobody is to look")
BOTH = frozenset({"rtx3060", "gtx1080ti"})


@pytest.mark.parametrize(
    "name",
    ["driver", "kernel_modules", "nvml", "cards", "throttling", "persistence", "devices", "uvm_at_boot", "cuda_build"],
)
def test_without_a_card_nothing_is_asked_of_it(name: str) -> None:
    nothing = {"driver": HIDDEN, "cards": HIDDEN, "devices": HIDDEN, "server": HIDDEN}

    assert line(name, wanted=wants(cards=()), **nothing).startswith("not needed")
    assert line(name, wanted=wants(cards=(), source=""), **nothing).startswith("not looked at")


@pytest.mark.parametrize("name", ["kernel_modules", "nvml", "throttling", "persistence", "devices"])
def test_without_a_driver_only_that_is_said(name: str) -> None:
    assert codes("driver", driver=None) == ["KI931"]
    assert line(name, driver=None) == "not looked at: there is no driver"


@pytest.mark.parametrize(
    ("cards", "branch", "flavour"),
    [
        ((RTX_3060, GTX_1080_TI), "branch 580 with proprietary", "need it"),
        ((RTX_5080,), "branch 580 or later with open", "rtx5080 needs it"),
        ((STRANGE, KEPLER), "branch 470 with proprietary", "strange, k80 need it"),
        ((STRANGE,), "branch 580 or later with open", "strange needs it"),
    ],
)
def test_a_missing_driver_is_named_by_what_the_cards_need(
    cards: tuple[NeededCard, ...], branch: str, flavour: str
) -> None:
    (check,) = checks("driver", wanted=wants(cards=cards), driver=None)

    assert branch in check.fix
    assert flavour in check.detail


def test_without_a_driver_the_bus_says_what_holds_the_cards() -> None:
    nouveau = "0000:04:00.0: its driver is nouveau; CUDA needs NVIDIA's"

    assert line("driver", driver=None, cards=Cards(unusable=(nouveau,))).endswith(f"need it ({nouveau})")
    assert line("driver", driver=None, cards=HIDDEN).endswith("need it")
    assert codes("driver", driver=None, cards=Cards(are_all_lent=True)) == []


@pytest.mark.parametrize(
    ("version", "cards", "expected"),
    [
        ("580.126.09", (RTX_3060, GTX_1080_TI), []),
        ("590.48.01", (RTX_3060, GTX_1080_TI), ["KI933"]),
        ("590.48.01", (RTX_3060, RTX_5080), []),
        ("570.86.15", (RTX_5080,), []),
        ("565.57.01", (RTX_5080, RTX_3060), ["KI932"]),
        ("470.256.02", (KEPLER,), []),
        ("535.261.03", (KEPLER, STRANGE), ["KI933"]),
        ("560.35.03", (KEPLER, RTX_5080), ["KI933", "KI932"]),
    ],
)
def test_the_branch_is_held_against_each_card(version: str, cards: tuple[NeededCard, ...], expected: list[str]) -> None:
    assert codes("driver", wanted=wants(cards=cards), driver=Driver(version, is_open=None)) == expected


def test_a_driver_that_is_right_says_for_which_cards() -> None:
    assert line("driver") == "580.126.09, which supports rtx3060, gtx1080ti"


@pytest.mark.parametrize(
    ("driver", "cards", "expected"),
    [
        (CLOSED_580, (RTX_3060, GTX_1080_TI), []),
        (OPEN_580, (RTX_3060, GTX_1080_TI), ["KI934"]),
        (OPEN_580, (RTX_3060, RTX_5080), []),
        (CLOSED_580, (RTX_3060, RTX_5080), ["KI934"]),
        (Driver("595.45.04", is_open=True), (RTX_5080,), ["KI935"]),
        (Driver("610.57.04", is_open=True), (RTX_5080,), ["KI935"]),
        (Driver("611.10", is_open=True), (RTX_5080,), []),
        (Driver("595.45.04", is_open=False), (RTX_3060,), []),
        (Driver("595.45.04", is_open=True), (GTX_1080_TI,), ["KI934", "KI935"]),
        (Driver("580.126.09", is_open=None), (RTX_3060,), ["KI930"]),
        (CLOSED_580, (RTX_5080, GTX_1080_TI), ["KI936"]),
        (None, (RTX_5080, GTX_1080_TI), ["KI936"]),
        (OPEN_580, (STRANGE,), []),
    ],
)
def test_the_kind_of_modules_is_held_against_the_cards(
    driver: Driver | None, cards: tuple[NeededCard, ...], expected: list[str]
) -> None:
    assert codes("kernel_modules", wanted=wants(cards=cards), driver=driver) == expected


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (DriverReading(trouble="Driver/library version mismatch"), "version mismatch"),
        (DriverReading(is_stale=True), "not in time"),
    ],
)
def test_an_nvml_that_does_not_answer_is_a_failure(reading: DriverReading, words: str) -> None:
    (check,) = checks("nvml", cards=Cards(BOTH, reading))

    assert check.code == "KI937"
    assert words in check.detail


def test_each_card_has_its_line() -> None:
    reading = DriverReading((CardReading("rtx3060", total_bytes=12 * GIB),))
    found = checks(
        "cards", wanted=wants(lent_cards=("far", "gone")), cards=Cards(frozenset({"rtx3060", "far"}), reading)
    )

    assert [(check.code, check.detail) for check in found] == [
        ("", "rtx3060 is there, 12288 MiB"),
        ("KI938", "gtx1080ti is not in this machine now"),
        ("", "far is lent by its host"),
        ("KI938", "gone is not lent by its host now"),
    ]
    assert "gpus.gtx1080ti" in found[1].fix
    assert "on that host" in found[3].fix


def test_lent_cards_alone_are_looked_at() -> None:
    assert line("cards", wanted=wants(cards=(), lent_cards=("far",)), cards=Cards(frozenset({"far"}))).startswith("far")


def test_a_card_of_which_the_driver_says_nothing_is_there_all_the_same() -> None:
    assert line("cards", wanted=wants(cards=(RTX_3060,)), cards=Cards(BOTH)) == "rtx3060 is there"


def test_a_card_that_has_failed_says_how() -> None:
    reading = DriverReading((CardReading("rtx3060", faults=(Fault(FaultKind.LOST, 0.0),)),))
    for choice in (HIDDEN, Choice()):
        (check,) = checks("cards", wanted=wants(cards=(RTX_3060,)), cards=Cards(BOTH, reading), choice=choice)
        assert (check.code, check.detail) == ("KI939", "rtx3060 has failed: lost")
        assert "gpu clear rtx3060" in check.fix


def test_a_card_in_quarantine_has_failed_though_the_driver_says_nothing_now() -> None:
    cards = (
        ReportedCard(card="rtx3060", state="quarantined", reason="XID 79 at 20:14"),
        ReportedCard(card="gtx1080ti", state="locked", reason="locked out"),
    )
    report = CardsReport(profile="min", reason="so", since_epoch_s=0.0, cards=cards)
    failed, other = checks("cards", cards=Cards(BOTH), choice=Choice("min", report))

    assert (failed.code, failed.detail) == ("KI939", "rtx3060 has failed: XID 79 at 20:14")
    assert (other.code, other.detail) == ("", "gtx1080ti is there")


@pytest.mark.parametrize(
    ("declared", "seen", "expected"),
    [(12 * GIB, 11 * GIB, ["KI940"]), (12 * GIB, 12 * GIB - 1, []), (11 * GIB, 12 * GIB, ["KI940"]), (0, GIB, [])],
)
def test_memory_is_held_against_what_is_declared(declared: int, seen: int, expected: list[str]) -> None:
    cards = Cards(BOTH, DriverReading((CardReading("rtx3060", total_bytes=seen),)))

    assert codes("cards", wanted=wants(cards=(replace(RTX_3060, vram_bytes=declared),)), cards=cards) == expected


def test_a_card_that_is_too_hot_is_named() -> None:
    (check,) = checks("throttling", cards=Cards(BOTH, brakes=(Brake("gtx1080ti", "too hot"),)))

    assert (check.code, check.detail) == ("KI941", "gtx1080ti: too hot")


def test_heat_that_cannot_be_asked_for_is_not_seen() -> None:
    assert codes("throttling", cards=Cards(BOTH, brakes=HIDDEN)) == ["KI930"]


def test_a_driver_without_its_daemon_is_a_warning() -> None:
    assert codes("persistence", driver=replace(CLOSED_580, has_persistence_daemon=False)) == ["KI942"]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (DEVICES, []),
        (replace(DEVICES, nodes=NODES[:3]), [("KI943", "/dev/nvidia-uvm missing")]),
        (replace(DEVICES, nodes=NODES[2:]), [("KI943", "/dev/nvidia0 missing")]),
        (
            replace(DEVICES, nodes=(*NODES, DeviceNode("/dev/nvidia2", 0o660))),
            [("KI944", "not every user may open /dev/nvidia2 (0660)")],
        ),
        (replace(DEVICES, classes=("nvidia",)), [("KI945", "/proc/devices has no nvidia-uvm")]),
    ],
)
def test_device_files_are_there_for_every_user(devices: Devices, expected: list[tuple[str, str]]) -> None:
    found = [(check.code, check.detail) for check in checks("devices", devices=devices) if check.code]

    assert found == expected


def test_what_the_first_apply_makes_is_no_failure_before() -> None:
    bare, nothing = Devices(NODES[:3], ("nvidia",)), Generation()

    assert line("devices", devices=bare, generation=nothing) == "kloros-gpu-nodes.service will make /dev/nvidia-uvm"
    assert line("devices", devices=replace(bare, nodes=NODES), generation=nothing).endswith("will make nvidia-uvm")
    assert codes("devices", devices=bare, generation=nothing, wanted=wants(units=())) == ["KI943", "KI945"]
    assert codes("devices", generation=nothing) == []


def test_cards_that_are_away_need_no_device_files_of_their_own() -> None:
    assert codes("devices", devices=replace(DEVICES, nodes=NODES[2:]), cards=Cards()) == []
    assert codes("devices", devices=replace(DEVICES, nodes=NODES[2:]), cards=HIDDEN) == []


def test_something_loads_nvidia_uvm_at_boot() -> None:
    assert "kloros-gpu-nodes.service" in line("uvm_at_boot")
    assert "/etc/modules-load.d/nvidia.conf" in line("uvm_at_boot", wanted=wants(units=()))
    assert codes("uvm_at_boot", wanted=wants(units=()), devices=replace(DEVICES, boot_files=())) == ["KI946"]
    assert codes("uvm_at_boot", wanted=wants(units=()), devices=HIDDEN) == ["KI930"]
