"""Which lockouts are in force: those of every source that is understood, and the last ones of those that are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from kloros_infra.ir.card_facts import Lockout, Now, Policy, PolicySource


def last_understood(remembered: Iterable[PolicySource], policy: Policy) -> tuple[PolicySource, ...]:
    """Keep what each source said last; a source that is gone says nothing any more.

    Of a folder that cannot be listed, all its files stay.
    """
    found = {source.name: source for source in policy.sources if source.lockouts is not None}
    unclear = [source for source in policy.sources if source.lockouts is None]
    for source in remembered:
        if any(covers(one, source.name) for one in unclear):
            found.setdefault(source.name, source)
    return tuple(PolicySource(name, found[name].lockouts) for name in sorted(found))


def covers(unclear: PolicySource, name: str) -> bool:
    """Say whether a source that is not understood is, or has in it, the one of that name."""
    is_in_folder = unclear.name.endswith("/") and name.startswith(unclear.name)
    return is_in_folder or name == unclear.name or name in unclear.others


def in_force(sources: Sequence[PolicySource], now: Now) -> dict[str, Lockout]:
    """Give the lockout of each card that ends last, of those that have not ended."""
    found: dict[str, Lockout] = {}
    for lockout in (one for source in sources for one in source.lockouts or ()):
        end = ends_s(lockout, now)
        if end > now.monotonic_s and (lockout.card not in found or end > ends_s(found[lockout.card], now)):
            found[lockout.card] = lockout
    return found


def ends_s(lockout: Lockout, now: Now) -> float:
    """Say when a lockout ends, on the monotonic clock; never where only its owner ends it."""
    return inf if lockout.until is None else now.monotonic_s + (lockout.until.timestamp() - now.epoch_s)


def lockout_words(lockout: Lockout) -> str:
    """Say why a card is locked out, and until when."""
    until = f" until {lockout.until.isoformat(sep=' ', timespec='minutes')}" if lockout.until else ""
    return f"locked out{until}{f': {lockout.reason}' if lockout.reason else ''}"
