"""Layers wherever somebody wants them → one run of layers for each device, the CPU's first.

llama.cpp gives each device consecutive layers, in the order of --device, and the CPU those before (src/llama-model.cpp,
load_tensors). Where wishes alternate, layers that are alike change places; where they are not, the runs are made that
move the fewest bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import permutations

from kloros_infra.ir.placement import CPU

Runs = tuple[tuple[int, str], ...]
"""For each place which layer's plan goes there, and the device."""

# More orders than these are not tried.
_MOST_CARDS_IN_ALL_ORDERS = 4


def exchanged(wanted: Sequence[str], kinds: Sequence[Hashable], head: str | None) -> Runs | None:
    """Sort layers by device, the head's last where that can be; None where one would replace another kind."""
    for order in _orders(wanted, head):
        rank = {device: place for place, device in enumerate(order)}
        layers = sorted(range(len(wanted)), key=lambda layer: rank[wanted[layer]])
        if all(kinds[layer] == kinds[place] for place, layer in enumerate(layers)):
            return tuple((layer, wanted[layer]) for layer in layers)
    return None


def _orders(wanted: Sequence[str], head: str | None) -> Iterator[tuple[str, ...]]:
    """Give the orders of devices to try: the head's card last, or else as the layers come."""
    first = tuple(sorted(dict.fromkeys(wanted), key=lambda device: device != CPU))
    if head in first and head not in (CPU, first[-1]):
        yield (*(device for device in first if device != head), head)
    yield first


def nearest(costs: Sequence[Mapping[str, int]]) -> Runs:
    """Divide layers so that the fewest bytes move; `costs` says for each layer what would, by its device."""
    cards = sorted(device for device in costs[0] if device != CPU)
    orders = permutations(cards) if len(cards) <= _MOST_CARDS_IN_ALL_ORDERS else iter([tuple(cards)])
    first = (CPU,) if CPU in costs[0] else ()
    _, devices = min(_divided(costs, (*first, *order)) for order in orders)
    return tuple(enumerate(devices))


def _divided(costs: Sequence[Mapping[str, int]], order: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Find the best runs in one order of devices: the bytes that move, and each layer's device."""
    best: list[tuple[int, tuple[str, ...]]] = [(0, ()) for _ in order]
    for cost in costs:
        upto = [min(best[: place + 1]) for place in range(len(order))]
        best = [
            (moved + cost[device], (*devices, device)) for (moved, devices), device in zip(upto, order, strict=True)
        ]
    return min(best)
