"""How devices and amounts are written for people."""

from __future__ import annotations

import pytest

from kloros_infra.cli.placement_text import BAR_CELLS, MIB, SIGNS, bar, layers_text, legend, memory_text
from kloros_infra.ir.placement import CPU
from kloros_infra.placement.account import DeviceAccount
from tests.factories import GIB


def account(weights: int = 0, *, total: int | None = None, others: int = 0) -> DeviceAccount:
    return DeviceAccount(CPU, None, (), False, weights, 0, 0, 0, others_bytes=others, total_bytes=total)


def test_whatever_is_there_has_a_cell_of_the_bar() -> None:
    assert bar(account(total=None)) == "." * BAR_CELLS
    drawn = bar(account(10, total=10**9, others=3))
    assert len(drawn) == BAR_CELLS
    assert drawn.startswith("#o.")
    assert bar(account(GIB)) == "#" * BAR_CELLS
    assert legend((account(10),)) == f"{SIGNS['weights']} weights"


def test_layers_are_told_in_words() -> None:
    assert layers_text(account()) == "no layers"
    assert layers_text(account(1)) == "no layers: the token embedding alone"
    card = DeviceAccount("CUDA0", "a", (), False, 1, 0, 0, 0)
    assert layers_text(card) == "no layers"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 MiB"), (60 * MIB, "60 MiB"), (GIB - 1, "1024 MiB"), (GIB, "1.0 GiB"), (16 * GIB, "16.0 GiB")],
)
def test_an_amount_has_the_unit_that_leaves_something_of_it(size_bytes: int, text: str) -> None:
    assert memory_text(size_bytes) == text
