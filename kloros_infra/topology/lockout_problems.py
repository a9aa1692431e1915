"""What can be wrong with a lockout file; none of it stops anything."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from pydantic import ValidationError

from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.card_facts import DeclaredCard, PolicyFile

_EXAMPLE = '{"lockout_gpus": ["rtx5080"], "reason": "gaming", "until": "2025-11-17T22:00:00Z"}'

# The agent is root without any capability, so what is another user's is closed to it as to anybody (capabilities(7)).
_UNREADABLE_HINT = "Let everybody read it (`chmod a+r`), or remove it to end its lockouts."
_TOO_MANY_HINT = "Remove those that nobody needs any more: an expired lockout's file may go."
_NAMING_HINT = "Name it as in models.yaml, or by UUID or PCI address, or remove the file if the card is gone for good."


def not_readable(file: PolicyFile) -> Diagnostic:
    """Say that a lockout file or folder cannot be read."""
    return Diagnostic(
        code="KI900",
        summary="Lockout file cannot be read",
        detail=f"{file.name} cannot be read: {file.obstacle}.",
        hint=_TOO_MANY_HINT if file.others else _UNREADABLE_HINT,
        severity=Severity.WARNING,
        address=file.name,
    )


def not_understood(name: str, error: ValidationError) -> Diagnostic:
    """Say what in a lockout file is not as it should be."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return Diagnostic(
        code="KI901",
        summary="Lockout file not understood",
        detail=f"{name}: {f'{place}: ' if place else ''}{first['msg']}.",
        hint=f"Write it as {_EXAMPLE}, or remove it to end its lockouts.",
        severity=Severity.WARNING,
        address=name,
    )


def pin_not_readable(name: str) -> Diagnostic:
    """Say that something is where the pin is said, and is no text."""
    return Diagnostic(
        code="KI924",
        summary="Pin cannot be read",
        detail=f"{name} is there, and cannot be read as text. No profile is pinned.",
        hint="Remove it, and pin a profile with `kloros-infra gpu pin PROFILE`.",
        severity=Severity.WARNING,
        address=name,
    )


def unknown_card(name: str, token: str, cards: Sequence[DeclaredCard]) -> Diagnostic:
    """Say that a lockout names a card that is not declared."""
    names = [card.name for card in cards if not card.is_lent]
    close = get_close_matches(token.lower(), names, 1)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    return Diagnostic(
        code="KI902",
        summary="Lockout of an unknown card",
        detail=f"{name} locks out {token!r}, which is none of this host's cards: {', '.join(names) or 'it has none'}.",
        hint=f"{meant}{_NAMING_HINT}",
        severity=Severity.WARNING,
        address=name,
    )


def unknown_keys(name: str, keys: Sequence[str], known: Sequence[str]) -> Diagnostic:
    """Say that a lockout file has keys that nothing acts on."""
    close = get_close_matches(keys[0], known, 1)
    return Diagnostic(
        code="KI903",
        summary="Unknown key in a lockout file",
        detail=f"{name} has keys that mean nothing: {', '.join(map(repr, keys))}.",
        hint=f"Did you mean '{close[0]}'?" if close else f"The keys are {', '.join(known)}.",
        severity=Severity.WARNING,
        address=name,
    )
