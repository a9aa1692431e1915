"""Pass 3: Instance → Placement, from the declared cards and the locked header.

Layers are the unit: a card gets a run of them, with their keys and values. The output head counts as one layer after
the last, so the last card that is used holds it; the token embedding is always in host memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import assert_never

from kloros_infra.diagnostics import Problems
from kloros_infra.ir.catalog import Card, Instance, PlacementMode
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.placement import problems
from kloros_infra.placement.cache_types import cache_type_problems
from kloros_infra.placement.companions import draft_by_device, projector_bytes
from kloros_infra.placement.memory import (
    compute_bytes,
    kv_by_layer,
    lent_weights_bytes,
    role_of,
    weights_by_device,
    workload,
)
from kloros_infra.placement.split import by_share, moved

CPU_ENGINE, SINGLE, SHARE, LAYERS, FIT = "cpu", "single", "share", "layers", "fit"
"""What decided a placement: no card, one card, layers by share or as written, or llama-server's own --fit at start."""


def place(instance: Instance) -> tuple[Placement | None, Problems]:
    """Give an instance's layers to devices; None when that cannot be done, with the reason."""
    found = tuple(cache_type_problems(instance))
    placement, more = _place(instance)
    return placement, (*found, *more)


def _place(instance: Instance) -> tuple[Placement | None, Problems]:
    if not instance.profile.cards:
        return _placement(instance, (), CPU_ENGINE), ()
    match instance.serving.placement:
        case PlacementMode.AUTO | PlacementMode.SOLVER:
            return _if_it_fits(instance, _automatic(instance))
        case PlacementMode.MANUAL:
            return _as_written(instance)
        case PlacementMode.FIT:
            # What --fit will find cannot be known here; by capacity is its own first guess.
            return _placement(instance, _by_capacity(instance), FIT), ()
        case PlacementMode.OVERRIDER:
            return None, (problems.engine_not_available(instance),)
        case _ as never:
            assert_never(never)


def _as_written(instance: Instance) -> tuple[Placement | None, Problems]:
    """Follow `layers` or `gpu_percentages`; where neither is given, divide by capacity."""
    if instance.layers is not None:
        if sum(instance.layers) > _slots(instance):
            return None, (problems.too_many_layers(instance, _slots(instance)),)
        engine = LAYERS if any(instance.layers) else CPU_ENGINE
        return _if_it_fits(instance, _placement(instance, instance.layers, engine))
    shares = instance.gpu_percentages
    counts = _by_capacity(instance) if shares is None else by_share(_slots(instance), shares)
    return _if_it_fits(instance, _placement(instance, counts, SHARE))


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
    """Work out what each device takes when each card of the profile gets so many layers.

    What no card gets are the first layers, which stay with the CPU (llama-model.cpp, load_tensors).
    """
    work = workload(instance)
    on_cards = tuple(f"CUDA{index}" for index, count in enumerate(counts) for _ in range(count))
    layer_devices = (CPU,) * (_slots(instance) - len(on_cards)) + on_cards
    return Placement(
        engine=engine,
        layer_devices=layer_devices,
        exceptions=(),
        loads=_loads(instance, layer_devices),
        context_tokens=work.context_tokens,
        parallel=work.parallel,
        micro_batch=work.micro_batch,
        cache_type_k=work.cache_type_k,
        cache_type_v=work.cache_type_v,
    )


def _loads(instance: Instance, layer_devices: tuple[str, ...]) -> tuple[DeviceLoad, ...]:
    cards = {f"CUDA{index}": card for index, card in enumerate(instance.profile.cards)}
    used = {device: card for device, card in cards.items() if device in layer_devices}
    header, work = instance.model.weights.header, workload(instance)
    weights = weights_by_device(header, layer_devices)
    extra = _extra(instance, layer_devices[-1])
    counts = Counter(layer_devices[:-1])
    kv: Counter[str] = Counter()
    for device, size_bytes in zip(layer_devices, kv_by_layer(header, work), strict=False):
        kv[device] += size_bytes

    def load(device: str, card: Card | None) -> DeviceLoad:
        return DeviceLoad(
            device=device,
            card=card.name if card else None,
            layers=counts[device],
            weights_bytes=weights.get(device, 0),
            kv_bytes=kv[device],
            compute_bytes=compute_bytes(header, work, role_of(device, layer_devices))
            + lent_weights_bytes(header, device, layer_devices),
            capacity_bytes=card.usable_bytes if card else None,
            extra_bytes=extra[device],
        )

    return (*(load(device, card) for device, card in used.items()), load(CPU, None))


def _extra(instance: Instance, head_device: str) -> Counter[str]:
    """Add up what is loaded beside the model."""
    model = instance.model
    found: Counter[str] = Counter()
    if model.draft is not None:
        found.update(draft_by_device(model.draft.weights.header, workload(instance), head_device))
    if model.projector is not None:
        found[head_device] += projector_bytes(model.projector.header)
    return found
