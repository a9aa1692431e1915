"""One card for one profile: left when others use it for a while, regained when it was free for a while."""

from __future__ import annotations

from kloros_infra.ir.card_facts import Holder, Now, ProfileRule
from kloros_infra.topology.cards import CardView
from kloros_infra.topology.decision import CardState, CardVerdict
from kloros_infra.topology.state import Standing

_NAMED_HOLDERS = 3


def stand(rule: ProfileRule, view: CardView, before: Standing | None, now: Now) -> Standing:
    """Say how a card stands with a profile now; without a past there is nothing to wait for."""
    used = view.foreign_bytes or 0
    is_over = used > rule.leave_above_bytes
    if before is None:
        is_ok = view.obstacle is None and not is_over
        return Standing(rule.name, view.card, is_ok, is_over)
    if view.obstacle is not None:
        # Nobody uses a card that is gone; one that is locked out or has failed may be in use all the same.
        return Standing(rule.name, view.card, False, view.is_present and (before.is_taken or is_over))
    if before.is_ok:
        since_s = _since(is_over, before, now)
        is_left = since_s is not None and now.monotonic_s >= since_s + rule.hold_s
        return Standing(rule.name, view.card, not is_left, is_left, None if is_left else since_s)
    is_taken = before.is_taken or is_over
    # Memory that nobody uses is below any threshold, also below none.
    is_free = used < max(rule.take_below_bytes, 1) if is_taken else not is_over
    since_s = _since(is_free, before, now)
    if since_s is not None and now.monotonic_s >= since_s + rule.regain_after_s:
        return Standing(rule.name, view.card, True)
    return Standing(rule.name, view.card, False, is_taken, since_s)


def _since(holds: bool, before: Standing, now: Now) -> float | None:
    """Say since when something holds; a time to come is of another boot's clock."""
    if not holds:
        return None
    return now.monotonic_s if before.since_s is None else min(before.since_s, now.monotonic_s)


def verdict(rule: ProfileRule, view: CardView, standing: Standing) -> CardVerdict:
    """Say in words how a card stands with a profile."""
    if view.obstacle is not None:
        return CardVerdict(view.card, view.obstacle.state, view.obstacle.reason, view.obstacle.until_s)
    wait_s = rule.hold_s if standing.is_ok else rule.regain_after_s
    until_s = None if standing.since_s is None else standing.since_s + wait_s
    if standing.is_ok:
        reason = _used(view) if standing.since_s is None else f"{_used(view)}, left after {wait_s:g} s of that"
        return CardVerdict(view.card, CardState.ELIGIBLE, reason, until_s)
    if standing.since_s is not None:
        return CardVerdict(view.card, CardState.WAITING, f"{_used(view)}, regained after {wait_s:g} s of that", until_s)
    return CardVerdict(view.card, CardState.TAKEN, f"{_used(view)}, regained below {in_gib(rule.take_below_bytes)}")


def _used(view: CardView) -> str:
    """Say how much others use, and who they are."""
    if view.foreign_bytes is None:
        return "present"
    if not view.foreign_bytes:
        return "free"
    holders = ", ".join(_named(holder) for holder in view.holders[:_NAMED_HOLDERS])
    return f"others use {in_gib(view.foreign_bytes)}{f' ({holders})' if holders else ''}"


def _named(holder: Holder) -> str:
    return f"{holder.name}, process {holder.pid}"


def in_gib(size: int) -> str:
    """Write bytes as people read the memory of a card."""
    return f"{size / 2**30:.1f} GiB"
