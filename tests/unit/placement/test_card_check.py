"""Which card is behind a device: what a placement expects, held against what real servers described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.ir.catalog import RemoteLink
from kloros_infra.ir.gate import ExpectedCard, expected_cards
from kloros_infra.ir.load_report import SeenDevice
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement.card_check import MARGIN_BYTES, other_cards
from kloros_infra.placement.load_report import MIB, parse_load_report
from tests.factories import GIB, a_card, a_profile

CASES = Path(__file__).parents[2] / "cases" / "load_report"
RTX_5080 = ExpectedCard("CUDA0", "rtx5080", 15880 * MIB)
RTX_3060 = ExpectedCard("CUDA1", "rtx3060", 11906 * MIB)


def described(case: str) -> tuple[SeenDevice, ...]:
    return parse_load_report((CASES / case / "llama-server.log").read_text("utf-8").splitlines()).seen


def test_a_log_describes_the_devices() -> None:
    assert described("b10068-two-cards") == (
        SeenDevice("CUDA0", "NVIDIA GeForce RTX 5080", 15880 * MIB),
        SeenDevice("CUDA1", "NVIDIA GeForce RTX 3060", 11906 * MIB),
    )
    assert described("b10068-rpc") == (SeenDevice("RPC0", "127.0.0.1:50052", 24105 * MIB),)


def test_what_only_the_line_of_use_names_has_an_unknown_amount() -> None:
    line = "llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 5080) (0000:01:00.0) - 15500 MiB free"
    assert parse_load_report([line]).seen == (SeenDevice("CUDA0", "NVIDIA GeForce RTX 5080"),)


def test_the_cards_that_were_meant_are_behind_the_devices() -> None:
    assert other_cards((RTX_5080, RTX_3060), described("b10068-two-cards")) == ()


def test_cards_that_changed_places_are_told_with_both_figures() -> None:
    swapped = (replace(RTX_5080, device="CUDA1"), replace(RTX_3060, device="CUDA0"))

    first, second = other_cards(swapped, described("b10068-two-cards"), "models.a.profiles.b")

    assert {problem.code for problem in (first, second)} == {"KI448"}
    assert (first.summary, first.address, first.is_error) == (
        "Another card behind CUDA1",
        "models.a.profiles.b",
        True,
    )
    assert "CUDA1 is to be rtx5080, of which CUDA sees 15880 MiB" in first.detail
    assert "a device (NVIDIA GeForce RTX 3060) with 11906 MiB" in first.detail
    assert "`uuid`" in second.hint


def test_a_server_that_lends_another_card_is_told() -> None:
    card = replace(RTX_3060, device="RPC0", is_remote=True)

    (problem,) = other_cards((card,), described("b10068-rpc"))

    assert problem.code == "KI448"
    assert "(127.0.0.1:50052) with 24105 MiB" in problem.detail
    assert "host that lends it" in problem.hint


@pytest.mark.parametrize(
    ("vram_bytes", "total_bytes", "is_fine"),
    [
        (8 * GIB, 8 * GIB + MARGIN_BYTES, True),
        (8 * GIB, 8 * GIB + MARGIN_BYTES + 1, False),
        (8 * GIB, 8 * GIB - MARGIN_BYTES, True),
        (8 * GIB, 8 * GIB - MARGIN_BYTES - 1, False),
        (100 * GIB, 97 * GIB, True),
        (100 * GIB, 97 * GIB - 1, False),
        (8 * GIB, None, True),
    ],
)
def test_how_far_two_amounts_may_lie_apart(vram_bytes: int, total_bytes: int | None, *, is_fine: bool) -> None:
    found = other_cards((ExpectedCard("CUDA0", "a", vram_bytes),), (SeenDevice("CUDA0", None, total_bytes),))
    assert (found == ()) is is_fine


def test_a_name_tells_cards_of_one_size_apart() -> None:
    card = replace(RTX_3060, model="NVIDIA GeForce RTX 3060")
    other = SeenDevice("CUDA1", "NVIDIA GeForce RTX 5070", 11906 * MIB)

    (problem,) = other_cards((card,), (other,))
    (unsized,) = other_cards((card,), (replace(other, total_bytes=None),))

    assert "rtx3060 (NVIDIA GeForce RTX 3060)" in problem.detail
    assert "(NVIDIA GeForce RTX 5070) with an unknown amount of memory" in unsized.detail
    # As the table of `placement verify` shortens it, and a name that nobody knows.
    assert other_cards((card,), (replace(other, description="RTX 3060"),)) == ()
    assert other_cards((card,), (replace(other, description="Graphics Device"),)) == ()
    assert other_cards((replace(card, model="a 3060 by me"),), (other,)) == ()


def test_a_card_of_the_right_name_may_have_more_than_it_is_let_have() -> None:
    card = replace(RTX_5080, model="NVIDIA GeForce RTX 5080", vram_bytes=10 * GIB)
    seen = SeenDevice("CUDA0", "NVIDIA GeForce RTX 5080", 15880 * MIB)

    assert other_cards((card,), (seen,)) == ()
    assert other_cards((replace(card, model=None),), (seen,)) != ()
    assert other_cards((card,), (replace(seen, total_bytes=8 * GIB),)) != ()


def test_what_is_not_seen_is_for_others_to_tell() -> None:
    assert other_cards((RTX_5080,), ()) == ()


def test_a_placement_expects_its_profile_s_cards() -> None:
    link = RemoteLink("10.0.0.7", (50052,), 10**8)
    near = replace(a_card("near", vram_bytes=12 * GIB), model="NVIDIA GeForce RTX 3060")
    far = replace(a_card("far", vram_bytes=8 * GIB), model="NVIDIA GeForce RTX 3070", remote=link)
    loads = tuple(
        DeviceLoad(device, card, 1, 1, 1, 1, None) for device, card in (("CUDA0", "near"), ("RPC0", "far"), (CPU, None))
    )
    placement = Placement("solver", ("CUDA0", "RPC0"), (), loads, 4096, 1, 512)

    assert expected_cards(placement, a_profile("max", near, far)) == (
        ExpectedCard("CUDA0", "near", 12 * GIB, "NVIDIA GeForce RTX 3060"),
        ExpectedCard("RPC0", "far", 8 * GIB, None, is_remote=True),
    )
