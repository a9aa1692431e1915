"""Cards that a placement expects + devices that llama-server describes → Problems: is each the card that was meant?

Weights, keys and values land on `CUDA0` whatever card is behind that name. Cards that are chosen by index shift when
one comes or goes, and a server of another host lends what it was started with. Memory tells cards apart, and the name
where models.yaml gives one; two of the same kind are told apart by their UUIDs alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.gate import ExpectedCard
from kloros_infra.ir.load_report import SeenDevice
from kloros_infra.placement.card_table import figures_of, short_name
from kloros_infra.placement.problems import in_mib

SHARE = 0.03
MARGIN_BYTES = 512 * 2**20
"""A card's memory may differ by this share or this much, whichever is more: what a driver keeps differs so much."""


def other_cards(expected: Iterable[ExpectedCard], seen: Iterable[SeenDevice], address: str = "") -> Problems:
    """Name the devices behind which another card is; what is not seen at all is for others to tell."""
    by_device = {one.device: one for one in seen}
    return tuple(
        _another(card, by_device[card.device], address)
        for card in expected
        if card.device in by_device and _is_another(card, by_device[card.device])
    )


def _is_another(card: ExpectedCard, seen: SeenDevice) -> bool:
    is_named = _is_known(card.model) and _is_known(seen.description)
    if is_named and short_name(card.model or "") != short_name(seen.description or ""):
        return True
    if seen.total_bytes is None:
        return False
    room = max(MARGIN_BYTES, SHARE * card.vram_bytes)
    # The card that was meant may have more than models.yaml lets it have.
    too_much = 0 if is_named else seen.total_bytes - card.vram_bytes
    return max(too_much, card.vram_bytes - seen.total_bytes) > room


def _is_known(name: str | None) -> bool:
    """Say whether it is a name of the table: others may be written in more ways than one."""
    return name is not None and figures_of(name) is not None


def _another(card: ExpectedCard, seen: SeenDevice, address: str) -> Diagnostic:
    has = "an unknown amount of memory" if seen.total_bytes is None else in_mib(seen.total_bytes)
    described = f" ({seen.description})" if seen.description else ""
    model = f" ({card.model})" if card.model else ""
    return Diagnostic(
        code="KI448",
        summary=f"Another card behind {card.device}",
        detail=f"{card.device} is to be {card.card}{model}, of which CUDA sees {in_mib(card.vram_bytes)}, and "
        f"llama-server sees a device{described} with {has}.",
        hint=_REMOTE_HINT if card.is_remote else _LOCAL_HINT,
        address=address,
    )


_LOCAL_HINT = (
    "Name cards by `uuid`: a card that comes or goes shifts the others' numbers. Where it is the right one, correct "
    "its `name` or `vram`."
)
_REMOTE_HINT = (
    "Apply on the host that lends it as well, so that both have the same models.yaml. Where it is the right one, "
    "correct its `vram`."
)
