"""What a changed placement means: memory on each card, and how fast the model is foreseen to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kloros_infra.ir.card_share import CARD_SHARES_KEY, read_shares
from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.predicted_speed import PREDICTED_SPEED_KEY, read_predicted

MIB_IN_GIB = 1024


def placement_change(keys: Iterable[KeyChange]) -> str:
    """Tell an instance's change by the keys of its unit: `-1.2 GiB on rtx3060, decode 70 -> 66 tok/s`.

    Of a unit that is new, or that is going, there is nothing to compare.
    """
    both = {key.key: (key.before, key.after) for key in keys if key.before is not None and key.after is not None}
    shares = both.get(f"Unit.{CARD_SHARES_KEY}", ("", ""))
    speeds = both.get(f"Unit.{PREDICTED_SPEED_KEY}", ("", ""))
    return ", ".join((*_memory(*map(_used_mib, shares)), *_speed(*speeds)))


def _used_mib(text: str) -> Mapping[str, int]:
    return {share.card: share.used_mib for share in read_shares(text)}


def _memory(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    for card in sorted(before.keys() | after.keys()):
        more_gib = f"{(after.get(card, 0) - before.get(card, 0)) / MIB_IN_GIB:+.1f}"
        if float(more_gib):
            yield f"{more_gib} GiB on {card}"


def _speed(before: str, after: str) -> Iterator[str]:
    old, new = read_predicted(before), read_predicted(after)
    # Tokens cost more the more stand before them: figures of two depths are no slower and no faster plan.
    is_deeper = None not in (old.depth, new.depth) and old.depth != new.depth
    depths = f" (at {old.depth} -> {new.depth} tokens of context)" if is_deeper else ""
    for name, was, is_ in (("decode", old.decode, new.decode), ("prefill", old.prefill, new.prefill)):
        if was is not None and is_ is not None and was != is_:
            yield f"{name} {was} -> {is_} tok/s{depths}"
