"""Pass 3: Instance → Placement, from the declared cards and the locked header.

Layers are the unit: a card gets a run of them, with their keys and values. The output head counts as one layer after
the last, so the last card that is used holds it; the token embedding is always in host memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import Card, Instance, PlacementMode
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement import problems
from kloros_infra.placement.memory import Role, compute_bytes, kv_by_layer, weights_by_device, workload
from kloros_infra.placement.split import by_share, moved

CPU_ENGINE, SINGLE, SHARE, FIT = "cpu", "single", "share", "fit"
"""What decided a placement: no card, one card, layers by share, or llama-server's own --fit at start."""


def place(instance: Instance) -> tuple[Placement | None, Problems]:
    """Give an instance's layers to devices; None when they do not fit, with what is missing."""
    cards, mode, shares = instance.profile.cards, instance.model.placement, instance.gpu_percentages
    if not cards:
        return _placement(instance, (), CPU_ENGINE), ()
    if mode is PlacementMode.FIT:
        # What --fit will find cannot be known here; by capacity is its own first guess.
        return _placement(instance, _by_capacity(instance), FIT), ()
    if mode is PlacementMode.SHARE:
        counts = by_share(_slots(instance), shares) if shares is not None else _by_capacity(instance)
        return _if_it_fits(instance, _placement(instance, counts, SHARE))
    return _if_it_fits(instance, _automatic(instance))


def check_together(placements: Mapping[InstanceId, Placement]) -> Problems:
    """Check that instances of one profile fit on its cards at the same time; give it those that are preloaded.

    Placements by `fit` are not counted: they make do with what they find.
    """
    counted = {instance: placement for instance, placement in placements.items() if placement.engine != FIT}
    on_card: dict[str, list[tuple[InstanceId, int]]] = {}
    capacities: dict[str, int] = {}
    for instance, placement in sorted(counted.items()):
        for load in placement.loads:
            if load.card is not None and load.capacity_bytes is not None:
                on_card.setdefault(load.card, []).append((instance, load.total_bytes))
                capacities[load.card] = load.capacity_bytes
    return tuple(
        problems.do_not_fit_together(needs[0][0].profile, card, capacities[card], needs)
        for card, needs in sorted(on_card.items())
        # One that does not fit by itself has been reported as such.
        if len(needs) > 1 and sum(need for _, need in needs) > capacities[card]
    )


def _automatic(instance: Instance) -> Placement:
    cards = instance.profile.cards
    fastest_first = sorted(range(len(cards)), key=lambda card: (-cards[card].bandwidth_bytes_per_s, card))
    for chosen in fastest_first:
        counts = tuple(_slots(instance) if card == chosen else 0 for card in range(len(cards)))
        alone = _placement(instance, counts, SINGLE)
        if alone.fits or len(cards) == 1:
            return alone
    return _balanced(instance)


def _balanced(instance: Instance) -> Placement:
    """Divide by capacity, then move single layers off cards that are too full, as long as that helps."""
    counts = _by_capacity(instance)
    best = _placement(instance, counts, SHARE)
    while (following := moved(counts, _over(instance, best))) is not None:
        tried = _placement(instance, following, SHARE)
        # By the fullest card, then the next: each step gets lower, so there is a last one.
        if sorted(_over(instance, tried), reverse=True) >= sorted(_over(instance, best), reverse=True):
            break
        counts, best = following, tried
    return best


def _by_capacity(instance: Instance) -> tuple[int, ...]:
    usable = [card.usable_bytes for card in instance.profile.cards]
    # Cards without any usable memory cannot hold the model: let the one that is too full be named.
    return by_share(_slots(instance), usable if any(usable) else [1] * len(usable))


def _slots(instance: Instance) -> int:
    """Count the layers and the output head."""
    return instance.model.weights.header.layer_count + 1


def _over(instance: Instance, placement: Placement) -> tuple[int, ...]:
    totals = {load.card: load.total_bytes for load in placement.loads}
    return tuple(totals.get(card.name, 0) - card.usable_bytes for card in instance.profile.cards)


def _if_it_fits(instance: Instance, placement: Placement) -> tuple[Placement | None, Problems]:
    if placement.fits:
        return placement, ()
    busiest = max(placement.loads, key=lambda load: load.total_bytes - (load.capacity_bytes or load.total_bytes))
    return None, (problems.does_not_fit(instance, busiest),)


def _placement(instance: Instance, counts: Sequence[int], engine: str) -> Placement:
    """Work out what each device takes when each card of the profile gets so many layers."""
    work = workload(instance.model)
    devices = [f"CUDA{index}" for index in range(len(counts))]
    layers = [device for device, count in zip(devices, counts, strict=True) for _ in range(count)]
    return Placement(
        engine=engine,
        layer_devices=tuple(layers) or (CPU,) * _slots(instance),
        exceptions=(),
        loads=_loads(instance, tuple(layers)),
        context_tokens=work.context_tokens,
        parallel=work.parallel,
        micro_batch=work.micro_batch,
        kv_type=work.kv_type,
    )


def _loads(instance: Instance, layers: tuple[str, ...]) -> tuple[DeviceLoad, ...]:
    used = {f"CUDA{index}": card for index, card in enumerate(instance.profile.cards) if f"CUDA{index}" in layers}
    header, work = instance.model.weights.header, workload(instance.model)
    layer_devices = layers or (CPU,) * _slots(instance)
    weights = weights_by_device(header, layer_devices)
    counts = Counter(layer_devices[:-1])
    kv: Counter[str] = Counter()
    for device, size_bytes in zip(layer_devices, kv_by_layer(header, work), strict=False):
        kv[device] += size_bytes

    def load(device: str, card: Card | None) -> DeviceLoad:
        role = Role(
            is_first=device in (layer_devices[0], CPU),
            holds_layers=counts[device] > 0,
            holds_head=device == layer_devices[-1],
            is_pipelined=len(used) > 1 and device != CPU,
        )
        return DeviceLoad(
            device=device,
            card=card.name if card else None,
            layers=counts[device],
            weights_bytes=weights.get(device, 0),
            kv_bytes=kv[device],
            compute_bytes=compute_bytes(header, work, role),
            capacity_bytes=card.usable_bytes if card else None,
        )

    return (*(load(device, card) for device, card in used.items()), load(CPU, None))
