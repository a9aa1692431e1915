"""Say in HTTP that nobody can serve a request: status and headers."""

from __future__ import annotations

from math import ceil

from kloros_infra.router.effects import Refuse

RETRY_SOON_S = 1.0
NOT_FOUND = frozenset({"KI801", "KI802", "KI803"})
NOT_HERE = frozenset({"KI806", "KI809", "KI872"})
NOT_ALLOWED = frozenset({"KI860", "KI861", "KI862", "KI863"})
TOO_MANY = frozenset({"KI864", "KI865"})
"""Refusals of one client's own: it asks too fast, or has too much waiting."""


def status_of(refuse: Refuse) -> int:
    """Choose the status: 404 for what is not known, 429 for who asks too much, 503 for what may be gone soon."""
    code = refuse.problem.code
    if code in NOT_FOUND:
        return 404
    if code in NOT_ALLOWED:
        return 403
    if code in TOO_MANY:
        return 429
    return 503 if refuse.is_temporary or code in NOT_HERE else 400


def headers_of(refuse: Refuse) -> bytes:
    """Write when to come again, and the place in line that there would have been."""
    lines = b""
    if refuse.is_temporary:
        seconds = RETRY_SOON_S if refuse.retry_after_s is None else refuse.retry_after_s
        lines = b"Retry-After: %d\r\n" % max(1, ceil(seconds))
    if refuse.position is not None:
        lines += b"X-Kloros-Queue-Position: %d\r\n" % refuse.position
    return lines
