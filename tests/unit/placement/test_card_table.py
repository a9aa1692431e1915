"""Figures of cards, by what the driver calls them."""

from __future__ import annotations

import pytest

from kloros_infra.placement.card_table import CARDS, figures_of, seen_by_cuda, short_name
from tests.factories import GIB

MIB = 2**20


def test_the_table_goes_by_short_names_and_has_every_generation() -> None:
    assert all(short_name(name) == name for name in CARDS)
    assert {figures.compute_capability[0] for figures in CARDS.values()} == {6, 7, 8, 9, 10, 12}


def test_figures_are_plausible() -> None:
    for name, figures in CARDS.items():
        assert 3072 <= figures.memory_mib <= 200_000, name
        assert 100 <= figures.bandwidth_gb_per_s <= 8000, name
        assert 0.01 <= figures.tflops / figures.bandwidth_gb_per_s <= 0.7, name
        assert figures.link_bytes_per_s >= 15_000_000_000, name


@pytest.mark.parametrize(
    ("name", "bandwidth"), [("NVIDIA GeForce RTX 3060", 360), ("rtx3060", 360), ("NVIDIA H100 80GB HBM3", 3350)]
)
def test_a_card_is_found_by_either_name(name: str, bandwidth: float) -> None:
    figures = figures_of(name)

    assert figures is not None
    assert figures.bandwidth_bytes_per_s == bandwidth * 10**9


def test_an_unknown_card_has_no_figures() -> None:
    assert figures_of("NVIDIA GeForce RTX 9999") is None


@pytest.mark.parametrize(
    ("name", "written", "seen_mib"),
    [
        # What logs say, and the rule where none is at hand.
        ("NVIDIA GeForce RTX 5080", 16 * GIB, 15880),
        ("rtx3060", 12288 * MIB, 11906),
        ("gtx1080ti", 11 * GIB, 11165),
        ("rtx4090", 24 * GIB, 24576 - 512),
        ("p40", 24 * GIB, 24576 - 246),
        ("h100-80gb-hbm3", 81559 * MIB, 81559 - 816),
        # Written as CUDA sees it, or less.
        ("rtx5080", 15880 * MIB, 15880),
        ("rtx5080", 15700 * MIB, 15700),
        # Another card of that name, and one that is not known.
        ("rtx3060", 8 * GIB, 8192),
        ("rtx2080ti", 22 * GIB, 22528),
        ("mystery", 12 * GIB, 12288),
    ],
)
def test_cuda_sees_less_than_is_sold(name: str, written: int, seen_mib: int) -> None:
    assert seen_by_cuda(name, written) == seen_mib * MIB
