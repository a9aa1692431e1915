"""A device for each tensor → a device for each layer, and what leaves it.

The overrider knows no layers: it fills cards with attention first, then with one kind of tensor after the other. In
llama.cpp a layer's keys and values are where its layer is, so that a layer goes where its attention is, and all of
its attention with it: else flash attention would be turned off. Other matrices leave their layer if the overrider says
so. Vectors stay with their layer or their matrix: they weigh nothing, and each would cost two splits. What belongs to
the input stays in host memory, as llama.cpp wants it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kloros_infra.ir.gguf import GgufHeader, TensorGroup
from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.overrider_runs import exchanged, nearest
from kloros_infra.placement.patterns import numbers_pattern

HEAD = "output.weight"

_ATTENTION = "attn"
# Parts of the names of tensors beside which a layer remembers: keys and values, or a state (src/llama-arch.cpp).
_REMEMBERING = (_ATTENTION, "ssm_", "shortconv", "time_mix", "kda")
_LAYER = "blk.*."
_WEIGHT = ".weight"

LayerTensors = Mapping[str, tuple[TensorGroup, str]]
"""One layer's tensors by what follows its number in their names, with the device that the overrider says."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer: its device, and by the names behind its number the tensors that are on another."""

    device: str
    away: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What llama.cpp is told: layers in runs, the head's device last, and the tensors that leave them.

    `cards` are those of the runs in their order, then those that hold nothing but such tensors. `moved_layers` are not
    where the overrider wanted them.
    """

    layer_devices: tuple[str, ...]
    exceptions: tuple[TensorException, ...]
    cards: tuple[str, ...]
    plans: tuple[LayerPlan, ...]
    head: str
    moved_layers: int


def arrange(header: GgufHeader, devices: Mapping[str, str], cards: Sequence[str]) -> Arrangement:
    """Make runs of layers; `devices` has one for each tensor, `cards` are those of the profile, in its order."""
    layers = _by_layer(header, devices)
    wanted = tuple(map(_most_of, layers))
    head = devices.get(HEAD)
    runs = exchanged(wanted, list(map(_shapes, layers)), head)
    if runs is None:
        runs = nearest([_bytes_elsewhere(tensors, set(wanted)) for tensors in layers])
    plans = tuple(_plan(layers[layer], device) for layer, device in runs)
    moved = sum(wanted[layer] != device for layer, device in runs)
    return _arrangement(header, plans, head, cards=cards, moved_layers=moved)


def _by_layer(header: GgufHeader, devices: Mapping[str, str]) -> tuple[LayerTensors, ...]:
    found: list[dict[str, tuple[TensorGroup, str]]] = [{} for _ in range(header.layer_count)]
    for group in header.tensors:
        for layer in group.layers or ():
            name = group.name.replace("*", str(layer), 1)
            found[layer][group.name.removeprefix(_LAYER)] = group, devices[name]
    return tuple(found)


def _most_of(tensors: LayerTensors) -> str:
    """Find where most bytes are of what the layer remembers by, or of all of it."""
    held = _held_bytes(tensors)
    # A layer without tensors is nowhere, and costs nothing there.
    return max(sorted(held), key=lambda where: held[where], default=CPU)


def _held_bytes(tensors: LayerTensors) -> Counter[str]:
    remembering = [one for kind, one in tensors.items() if any(mark in kind for mark in _REMEMBERING)]
    held: Counter[str] = Counter()
    for group, where in remembering or tensors.values():
        held[where] += group.size_bytes
    return held


def _bytes_elsewhere(tensors: LayerTensors, devices: set[str]) -> Mapping[str, int]:
    """Say for each device what would have to move if the layer went there."""
    held = _held_bytes(tensors)
    return {device: held.total() - held[device] for device in devices}


def _shapes(tensors: LayerTensors) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((kind, group.shape) for kind, (group, _) in tensors.items())


def _plan(tensors: LayerTensors, device: str) -> LayerPlan:
    matrices = {
        kind: device if _ATTENTION in kind else where
        for kind, (group, where) in tensors.items()
        if len(group.shape) > 1
    }
    # A bias goes with its matrix.
    of_stems = {_stem(kind): where for kind, where in matrices.items()}
    placed = {kind: matrices.get(kind) or of_stems.get(_stem(kind), device) for kind in tensors}
    return LayerPlan(device, {kind: where for kind, where in sorted(placed.items()) if where != device})


def _stem(kind: str) -> str:
    return kind.rpartition(".")[0]


def _arrangement(
    header: GgufHeader, plans: tuple[LayerPlan, ...], head: str | None, *, cards: Sequence[str], moved_layers: int
) -> Arrangement:
    of_layers = tuple(plan.device for plan in plans)
    last = of_layers[-1]
    # A card without layers can end the list; a head elsewhere leaves the last layer's device.
    is_apart = head is not None and head != CPU and head not in of_layers
    wanted = head or last
    layer_devices = (*of_layers, wanted if is_apart else last)
    used = dict.fromkeys(device for device in layer_devices if device != CPU)
    away = {device for plan in plans for device in plan.away.values()} | {wanted}
    exceptions = tuple(_exceptions(header, plans, (*cards, CPU)))
    if wanted != layer_devices[-1]:
        exceptions = (*exceptions, TensorException("^output[.]weight", wanted))
    return Arrangement(
        layer_devices=layer_devices,
        exceptions=exceptions,
        cards=(*used, *(card for card in cards if card in away and card not in used)),
        plans=plans,
        head=wanted,
        moved_layers=moved_layers,
    )


def _exceptions(header: GgufHeader, plans: Sequence[LayerPlan], devices: Sequence[str]) -> Iterator[TensorException]:
    """Write down what leaves its layer: one pattern for the tensors of the same layers that go to the same device."""
    for device in devices:
        layers_of: defaultdict[str, list[int]] = defaultdict(list)
        for layer, plan in enumerate(plans):
            for kind, where in plan.away.items():
                if where == device:
                    layers_of[kind].append(layer)
        kinds_of: defaultdict[str, list[str]] = defaultdict(list)
        for kind, layers in sorted(layers_of.items()):
            kinds_of[_numbers(layers, header, kind)].append(kind)
        for numbers, kinds in kinds_of.items():
            yield TensorException(f"^blk[.]{numbers}[.]{_kinds(kinds)}", device)


def _numbers(layers: Sequence[int], header: GgufHeader, kind: str) -> str:
    everywhere = {layer for group in header.tensors if group.name == _LAYER + kind for layer in group.layers or ()}
    return "[0-9]+" if everywhere == set(layers) else _alternatives(numbers_pattern(layers))


def _kinds(kinds: Sequence[str]) -> str:
    """Write names as alternatives: `ffn_(down|up)[.]weight`; one without an ending could begin another's."""
    if all(kind.endswith(_WEIGHT) for kind in kinds):
        return _literal(_alternatives([kind.removesuffix(_WEIGHT) for kind in kinds]) + _WEIGHT)
    return f"{_literal(_alternatives(kinds))}$"


def _alternatives(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})"


def _literal(text: str) -> str:
    return text.replace(".", "[.]")
