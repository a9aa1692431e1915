"""Check what the servers of other instances leave of a card that is lent.

Each instance on a card of another host has a server there, which runs whatever profile is active: one that waits holds
a CUDA context all the same (ggml-rpc.cpp makes its backends before it listens).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import Instance
from kloros_infra.ir.placement import DeviceLoad, Placement
from kloros_infra.placement.problems import in_mib

Placed = Sequence[tuple[Instance, Placement]]


def crowded_cards(placed: Placed) -> Iterator[Diagnostic]:
    """Find cards of other hosts that are too full once each server is counted."""
    remote = {card.name for instance, _ in placed for card in instance.profile.cards if card.remote is not None}
    for card in sorted(remote):
        on_card = [(instance, load) for instance, placement in placed for load in _on(card, placement)]
        waiting_bytes = max(0, len(on_card) - 1) * CONTEXT_BYTES
        for profile in dict.fromkeys(instance.profile.name for instance, _ in on_card):
            here = [(instance, load) for instance, load in on_card if instance.profile.name == profile]
            capacity = here[0][1].capacity_bytes or 0
            at_once = _most_at_once(here)
            if at_once <= capacity < at_once + waiting_bytes:
                too_much = at_once + waiting_bytes - capacity
                yield _crowded(profile, card, servers=len(on_card), too_much_bytes=too_much)


def _on(card: str, placement: Placement) -> Iterator[DeviceLoad]:
    return (load for load in placement.loads if load.card == card)


def _most_at_once(loads: Sequence[tuple[Instance, DeviceLoad]]) -> int:
    """Add up what is preloaded; what is loaded on demand may be more than all of it."""
    preloaded = sum(load.total_bytes for instance, load in loads if instance.serving.preload)
    return max(preloaded, *(load.total_bytes for _, load in loads))


def _crowded(profile: str, card: str, *, servers: int, too_much_bytes: int) -> Diagnostic:
    return Diagnostic(
        code="KI437",
        summary="Waiting RPC servers leave too little room",
        detail=f"{card} is lent to {servers} models, each by a server of its own, and one that waits holds"
        f" {in_mib(CONTEXT_BYTES)} of it: {in_mib(too_much_bytes)} too much under profile {profile}.",
        hint=f"Raise gpus.{card}.reserve by as much, so that models are placed with less, or list {card} where fewer"
        " models use it.",
        address=f"profiles.{profile}",
    )
