"""Say what each device computes: its own layers, the experts it holds, and what it computes for the CPU.

llama.cpp, ggml/src/ggml-backend.cpp (ggml_backend_sched_backend_id_from_cur): where a prompt meets weights in host
memory, the first card gets a copy of them and does the multiplication (32 tokens and more).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import CPU, TensorException
from kloros_infra.placement.memory_weights import pieces

EXPERTS_MARK = "_exps."
"""Part of the name of each tensor that holds all experts of a layer (src/llama-arch.cpp)."""


@dataclass(frozen=True, slots=True)
class TensorPlaces:
    """Which device has what: `layer_devices` ends with the head's, `cards` are in the order llama-server is told."""

    layer_devices: tuple[str, ...]
    exceptions: tuple[TensorException, ...] = ()
    cards: tuple[str, ...] = ()

    @property
    def all_cards(self) -> tuple[str, ...]:
        """Give the cards, by default those of the layers in their order."""
        return self.cards or tuple(dict.fromkeys(one for one in self.layer_devices if one != CPU))

    @property
    def is_pipelined(self) -> bool:
        """Say whether cards work as a pipeline: all layers are on several, and no tensor leaves them.

        src/llama-context.cpp, pipeline_parallel.
        """
        return len(self.all_cards) > 1 and CPU not in self.layer_devices and not self.exceptions


@dataclass(frozen=True, slots=True)
class Role:
    """What one device does; layers are numbers, and None stands for all of them.

    `core_layers` and `expert_layers` are what it computes from weights of its own, `lent_layers` from weights of the
    CPU, the largest of which takes `lent_bytes`. `has_lent_for_others` says that some of these are of another card's
    layers: then two of them are there at a time. Of `guest_layers` the CPU has all, their keys and values too.
    """

    is_first: bool
    holds_layers: bool
    holds_head: bool
    is_pipelined: bool
    lent_bytes: int = 0
    core_layers: tuple[int, ...] | None = None
    expert_layers: tuple[int, ...] | None = None
    lent_layers: tuple[int, ...] | None = None
    has_lent_for_others: bool = False
    guest_layers: tuple[int, ...] = ()
    is_last: bool = False
    is_idle_cpu: bool = False


def roles(header: GgufHeader, places: TensorPlaces) -> Mapping[str, Role]:
    """Say what each card does, in their order, and last the CPU."""
    cards = places.all_cards
    experts = _expert_devices(header, places)
    of_layers = places.layer_devices[:-1]
    if not cards:
        return {CPU: Role(is_first=True, holds_layers=True, holds_head=True, is_pipelined=False, is_last=True)}
    used = [card for card in cards if card in places.layer_devices]
    lent_bytes = largest_lent_bytes(header, places)
    guests = tuple(layer for layer, device in enumerate(of_layers) if device == CPU)

    def role(card: str) -> Role:
        is_first = card == cards[0]
        lent = tuple(layer for layer, where in enumerate(experts) if is_first and CPU in where)
        own = tuple(layer for layer, device in enumerate(of_layers) if device == card or (is_first and device == CPU))
        own_experts = tuple(layer for layer, where in enumerate(experts) if card in where)
        return Role(
            is_first=is_first or card in used[:1],
            holds_layers=bool(own or own_experts),
            holds_head=places.layer_devices[-1] == card,
            is_pipelined=places.is_pipelined and card in used,
            lent_bytes=lent_bytes if is_first else 0,
            core_layers=own,
            expert_layers=own_experts,
            lent_layers=lent,
            has_lent_for_others=any(of_layers[layer] not in (card, CPU) for layer in lent),
            guest_layers=guests if is_first else (),
            is_last=card in used[-1:],
        )

    return {**{card: role(card) for card in cards}, CPU: _idle_cpu(places, guests)}


def _idle_cpu(places: TensorPlaces, kept: tuple[int, ...]) -> Role:
    """Say what the CPU does beside cards: it looks up words, and keeps what its layers remember."""
    return Role(
        is_first=True,
        holds_layers=bool(kept),
        holds_head=False,
        is_pipelined=places.is_pipelined,
        core_layers=kept,
        expert_layers=(),
        is_idle_cpu=True,
    )


def _expert_devices(header: GgufHeader, places: TensorPlaces) -> list[frozenset[str]]:
    """Say on which devices each layer's experts are."""
    rules = [(re.compile(one.pattern), one.device) for one in places.exceptions]
    found: list[set[str]] = [set() for _ in range(header.layer_count)]
    for group in header.tensors:
        if EXPERTS_MARK not in group.name:
            continue
        for layer in group.layers or ():
            name = group.name.replace("*", str(layer), 1)
            excepted = (device for pattern, device in rules if pattern.search(name))
            found[layer].add(next(excepted, places.layer_devices[layer]))
    return [frozenset(one) for one in found]


def largest_lent_bytes(header: GgufHeader, places: TensorPlaces) -> int:
    """Say what the largest of the CPU's matrices takes, which the first card keeps free for it."""
    held: Counter[str] = Counter()
    for where, group, _ in pieces(header, places.layer_devices, places.exceptions):
        if where == CPU and group.layers is not None and len(group.shape) > 1:
            held[group.name] = max(held[group.name], group.size_bytes)
    return max(held.values(), default=0)
