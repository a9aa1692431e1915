"""Layers as models.yaml says: so many for each card, or by its percentages."""

from __future__ import annotations

from collections.abc import Sequence

from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement import problems
from kloros_infra.placement.engines.interface import CPU_ENGINE, LAYERS, SHARE, Engine, Outcome, Request, decided
from kloros_infra.placement.speed import in_runs
from kloros_infra.placement.split import by_share


def _place(request: Request) -> Outcome:
    """Follow `layers` or `gpu_percentages`; where neither is given, divide by capacity."""
    instance = request.instance
    if instance.layers is not None:
        if sum(instance.layers) > request.slots:
            return None, (problems.too_many_layers(instance, request.slots),)
        return if_it_fits(
            request, with_counts(request, instance.layers, LAYERS if any(instance.layers) else CPU_ENGINE)
        )
    shares = instance.gpu_percentages
    counts = by_capacity(request) if shares is None else by_share(request.slots, shares)
    return if_it_fits(request, with_counts(request, counts, SHARE))


def by_capacity(request: Request) -> tuple[int, ...]:
    """Divide the layers by what the cards can hold."""
    usable = [card.usable_bytes or 0 for card in request.cards]
    # Cards without any usable memory cannot hold the model: let the one that is too full be named.
    return by_share(request.slots, usable if any(usable) else [1] * len(usable))


def with_counts(request: Request, counts: Sequence[int], engine: str) -> Placement:
    """Give each card of the profile so many layers.

    What no card gets are the first layers, which stay with the CPU (llama-model.cpp, load_tensors).
    """
    on_cards = tuple(card.name for card, count in zip(request.cards, counts, strict=True) for _ in range(count))
    layer_devices = (CPU,) * (request.slots - len(on_cards)) + on_cards
    return decided(engine, request.task, in_runs(tuple(dict.fromkeys(on_cards)), layer_devices))


def if_it_fits(request: Request, placement: Placement) -> Outcome:
    """Give a placement, or say which device is too full."""
    if placement.fits:
        return placement, ()
    return None, (problems.does_not_fit(request.instance, busiest_load(placement)),)


def busiest_load(placement: Placement) -> DeviceLoad:
    """Give the load that is most beyond what its device holds."""

    def beyond(load: DeviceLoad) -> int:
        return load.total_bytes - (load.total_bytes if load.capacity_bytes is None else load.capacity_bytes)

    return max(placement.loads, key=beyond)


ENGINE = Engine("manual", version=1, place=_place)
