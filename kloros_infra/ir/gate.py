"""What a started instance must show, once it is ready, before requests are sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kloros_infra.ir.catalog import ModelKind, Profile
from kloros_infra.ir.placement import Placement


@dataclass(frozen=True, slots=True)
class ExpectedCard:
    """The card that a placement expects behind one of llama.cpp's devices.

    `card` is its name in models.yaml, `vram_bytes` what CUDA sees of its memory, `model` what the driver calls it:
    None where models.yaml does not say, and for a card of another host, which llama.cpp does not describe.
    """

    device: str
    card: str
    vram_bytes: int
    model: str | None = None
    is_remote: bool = False


def expected_cards(placement: Placement, profile: Profile) -> tuple[ExpectedCard, ...]:
    """List the cards that a placement speaks of, by the devices that they are to be."""
    return tuple(_expected(placement, profile))


def _expected(placement: Placement, profile: Profile) -> Iterator[ExpectedCard]:
    cards = {card.name: card for card in profile.cards}
    for load in placement.loads:
        if load.card is not None:
            card = cards[load.card]
            is_remote = card.remote is not None
            yield ExpectedCard(load.device, card.name, card.vram_bytes, None if is_remote else card.model, is_remote)


@dataclass(frozen=True, slots=True)
class InstanceGate:
    """One instance's checks beside readiness: loaded as placed, and able to work.

    `base_url` is where its server listens; `card_uuids` pairs llama.cpp's devices with the cards behind them, as far
    as their UUIDs are known, `cards` are all that the placement expects.
    """

    base_url: str
    kind: ModelKind
    placement: Placement
    token_timeout_s: float
    card_uuids: tuple[tuple[str, str], ...] = ()
    cards: tuple[ExpectedCard, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What became of the smallest request; `detail` says in what it fell short."""

    is_good: bool
    detail: str = ""
