"""One run of layers for each device: by exchange where layers are alike, else by moving as little as can be."""

from __future__ import annotations

from itertools import groupby, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.overrider_runs import Runs, exchanged, nearest

ALIKE = ["layer"] * 6
DEVICES = [CPU, "CUDA0", "CUDA1"]


def devices_of(runs: Runs | None) -> list[str]:
    assert runs is not None
    return [device for _, device in runs]


def test_runs_stay_as_they_are() -> None:
    wanted = ["CPU", "CUDA1", "CUDA1", "CUDA0"]

    assert exchanged(wanted, [1, 2, 3, 4], None) == tuple(enumerate(wanted))


def test_layers_that_are_alike_change_places() -> None:
    wanted = ["CUDA0", "CUDA0", "CUDA1", "CUDA0", "CPU", "CUDA1"]

    assert exchanged(wanted, ALIKE, None) == (
        (4, "CPU"),
        (0, "CUDA0"),
        (1, "CUDA0"),
        (3, "CUDA0"),
        (2, "CUDA1"),
        (5, "CUDA1"),
    )


def test_the_head_s_card_is_put_last_where_that_can_be() -> None:
    wanted = ["CUDA0", "CUDA0", "CUDA1", "CUDA1", "CUDA1", "CUDA1"]

    assert devices_of(exchanged(wanted, ALIKE, "CUDA0")) == ["CUDA1"] * 4 + ["CUDA0"] * 2
    assert devices_of(exchanged(wanted, [1, 2, 3, 4, 5, 6], "CUDA0")) == wanted
    for head in ("CUDA1", "CUDA2", CPU, None):
        assert devices_of(exchanged(wanted, ALIKE, head)) == wanted


def test_layers_that_differ_do_not_change_places() -> None:
    assert exchanged(["CUDA0", "CUDA1", "CUDA0"], ["a", "b", "a"], None) is None
    assert exchanged(["CUDA0", "CUDA1", "CUDA0"], ["a", "b", "b"], None) is not None


COSTS = st.lists(st.fixed_dictionaries({device: st.integers(0, 9) for device in DEVICES}), min_size=1, max_size=5)


def is_in_runs(devices: tuple[str, ...]) -> bool:
    runs = [device for device, _ in groupby(devices)]
    return len(runs) == len(set(runs)) and CPU not in runs[1:]


@given(COSTS)
def test_no_runs_move_less(costs: list[dict[str, int]]) -> None:
    found = tuple(devices_of(nearest(costs)))
    every = (devices for devices in product(DEVICES, repeat=len(costs)) if is_in_runs(devices))

    def moved(devices: tuple[str, ...]) -> int:
        return sum(cost[device] for cost, device in zip(costs, devices, strict=True))

    assert is_in_runs(found)
    assert moved(found) == min(map(moved, every))


@pytest.mark.parametrize("count", [4, 5, 8])
def test_many_cards_take_no_time(count: int) -> None:
    cards = [f"CUDA{index}" for index in range(count)]
    costs = [{card: int(card != cards[layer % count]) for card in cards} for layer in range(60)]

    found = tuple(devices_of(nearest(costs)))

    assert is_in_runs(found)
