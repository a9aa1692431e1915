"""Cards that are there, against those that a generation was compiled for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.ir.card_facts import CardReading
from kloros_infra.ir.detected_card import DetectedCard, SeenDevice, has_other_memory
from kloros_infra.topology.hardware import (
    CompiledCard,
    HardwareChange,
    detected_cards,
    hardware_changes,
    remembered,
    undeclared,
)

GIB = 2**30
BIG = CompiledCard("rtx5080", "GPU-big", "0000:01:00.0", 15880 * 2**20)
SMALL = CompiledCard("rtx3060", "GPU-small", "0000:04:00.0", 11906 * 2**20)
BOTH = (BIG, SMALL)
BIG_THERE = SeenDevice("0000:01:00.0", "GPU-big", "NVIDIA GeForce RTX 5080")
SMALL_THERE = SeenDevice("0000:04:00.0", "GPU-small", "NVIDIA GeForce RTX 3060")
THERE = (SMALL_THERE, BIG_THERE)
BIG_READ = CardReading("rtx5080", "GPU-big", "0000:01:00.0", 16303 * 2**20)
SMALL_READ = CardReading("rtx3060", "GPU-small", "0000:04:00.0", 12288 * 2**20)


def words(
    compiled: tuple[CompiledCard, ...], devices: tuple[SeenDevice, ...], *readings: CardReading
) -> list[tuple[str, bool]]:
    return [(one.words, one.is_mendable) for one in hardware_changes(compiled, devices, readings)]


def test_what_the_driver_keeps_for_itself_is_no_difference() -> None:
    assert words(BOTH, THERE, BIG_READ, SMALL_READ) == []


def test_cards_that_are_away_or_with_a_virtual_machine_are_no_difference() -> None:
    assert words(BOTH, ()) == []
    assert words(BOTH, (replace(BIG_THERE, uuid=None, is_usable=False),)) == []


def test_a_card_that_nobody_declared_is_named_and_no_compile_takes_it_up() -> None:
    new = SeenDevice("0000:07:00.0", "GPU-new", "NVIDIA GeForce RTX 4090")
    assert words(BOTH, (*THERE, new)) == [("NVIDIA GeForce RTX 4090 at 0000:07:00.0 is not in models.yaml", False)]
    assert words((), (SeenDevice("0000:07:00.0"),)) == [("a card at 0000:07:00.0 is not in models.yaml", False)]
    assert undeclared(BOTH, (*THERE, replace(new, is_usable=False))) == ()


def test_a_card_whose_uuid_the_driver_has_not_read_may_be_one_that_is_declared() -> None:
    unread = SeenDevice("0000:01:00.0", "GPU-????????-????", "NVIDIA GeForce RTX 5080")
    by_uuid = replace(BIG, pci=None)
    assert undeclared((by_uuid,), (unread,)) == ()
    assert undeclared((BIG,), (unread,)) == ()
    (found,) = detected_cards((BIG,), (unread,))
    assert (found.uuid, found.has_replaced) == ("GPU-big", False)


def test_another_card_in_the_place_of_a_declared_one_is_told() -> None:
    other = SeenDevice("0000:01:00.0", "GPU-other", "NVIDIA GeForce RTX 5070")
    assert words(BOTH, (other, SMALL_THERE)) == [
        (
            "in the place of rtx5080, 0000:01:00.0, there is another card: NVIDIA GeForce RTX 5070, GPU-other",
            True,
        )
    ]
    assert detected_cards(BOTH, (other,)) == (
        DetectedCard("rtx5080", "GPU-other", "0000:01:00.0", None, "NVIDIA GeForce RTX 5070", has_replaced=True),
    )


def test_cards_that_have_changed_places_are_the_same_cards() -> None:
    swapped = (replace(BIG_THERE, pci="0000:04:00.0"), replace(SMALL_THERE, pci="0000:01:00.0"))
    assert words(BOTH, swapped) == [
        ("rtx5080 is at 0000:04:00.0, and was at 0000:01:00.0", True),
        ("rtx3060 is at 0000:01:00.0, and was at 0000:04:00.0", True),
    ]
    # While one of them is away, the other one is not taken for it.
    assert words(BOTH, swapped[1:]) == [("rtx3060 is at 0000:01:00.0, and was at 0000:04:00.0", True)]


def test_a_card_is_found_by_the_driver_alone() -> None:
    by_uuid = replace(BIG, pci=None)
    assert words((by_uuid,), (), BIG_READ) == []
    assert detected_cards((by_uuid,), (), (BIG_READ,)) == (
        DetectedCard("rtx5080", "GPU-big", "0000:01:00.0", 16303 * 2**20),
    )


@pytest.mark.parametrize(
    ("uuid", "gib", "expected"),
    [
        ("GPU-big", 12, ["rtx5080 has 12.0 GiB of memory, and was declared with 15.5 GiB"]),
        ("GPU-big", 24, []),  # somebody keeps some of it from us
        (None, 24, ["rtx5080 has 24.0 GiB of memory, and was declared with 15.5 GiB"]),
        (None, 16, []),
    ],
)
def test_other_memory_is_told(uuid: str | None, gib: int, expected: list[str]) -> None:
    reading = replace(BIG_READ, total_bytes=gib * GIB)
    assert words((replace(BIG, uuid=uuid),), (BIG_THERE,), reading) == [(text, True) for text in expected]


def test_memory_is_compared_where_both_sides_are_known() -> None:
    assert words((BIG,), (BIG_THERE,), replace(BIG_READ, total_bytes=None)) == []
    assert words((replace(BIG, vram_bytes=0),), (BIG_THERE,), replace(BIG_READ, total_bytes=GIB)) == []
    assert has_other_memory(100, 96, is_same=True)
    assert not has_other_memory(100, 97, is_same=True)


def test_a_card_shown_by_its_place_is_told_when_others_come_before_it() -> None:
    by_place = replace(SMALL, uuid=None)
    assert words((by_place,), (SMALL_THERE,)) == []
    shifted = [
        ("rtx3060 is shown to models by its place, 0, and has place 1 now", True),
        ("NVIDIA GeForce RTX 5080 at 0000:01:00.0 is not in models.yaml", False),
    ]
    assert words((by_place,), THERE) == shifted
    # Without a UUID no compile can name it otherwise.
    assert words((by_place,), (BIG_THERE, replace(SMALL_THERE, uuid=None)))[0][1] is False
    # A card that CUDA does not see takes no place.
    assert words((by_place,), (replace(BIG_THERE, is_usable=False), SMALL_THERE)) == []


def test_what_was_known_of_a_card_that_nobody_tells_of_is_kept() -> None:
    of_big, of_small = (HardwareChange(name, "has other memory", is_mendable=True) for name in ("rtx5080", "rtx3060"))
    of_none = HardwareChange("", "a card at 0000:07:00.0 is not in models.yaml", is_mendable=False)

    assert remembered((of_small,), (of_big, of_small, of_none), told=("rtx3060",)) == (of_small, of_big)
    assert remembered((), (of_big,), told=("rtx5080",)) == ()
