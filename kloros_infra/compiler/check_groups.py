"""Checks of groups, whose models take turns on their cards (KI278, KI279)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.serving import serving_of
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import Serving
from kloros_infra.ir.config import Config


class _Member(NamedTuple):
    """A model of a group under a profile."""

    group: str
    profile: str
    model: str
    serving: Serving
    address: Address


def check_groups(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find groups in which nobody's turn ends, or in which several are to be there from the start."""
    pinned: dict[tuple[str, str], str] = {}
    preloaded: dict[tuple[str, str], str] = {}
    for member in _members(parsed.config):
        place = member.group, member.profile
        if member.serving.is_pinned and pinned.setdefault(place, member.model) != member.model:
            yield parsed.locate(_never_ends(member, pinned[place]), member.address, at_key=True)
        elif member.serving.preload and preloaded.setdefault(place, member.model) != member.model:
            yield parsed.locate(_starts_together(member, preloaded[place]), member.address, at_key=True)


def _members(config: Config) -> Iterator[_Member]:
    for index, model in enumerate(config.models):
        for profile, instance in model.profiles.items():
            if model.group is not None and instance is not None:
                serving = serving_of(instance, model, config.defaults)
                yield _Member(model.group, profile, model.id, serving, ("models", index, "profiles", profile))


def _never_ends(member: _Member, first: str) -> Diagnostic:
    return Diagnostic(
        code="KI278",
        summary="Turns that never end",
        detail=f"{member.model} and {first} take turns in the group {member.group}, and both are pinned under"
        f" {member.profile}: neither ever stops for the other.",
        hint="Take `pin` off one of them, or give them no common group.",
    )


def _starts_together(member: _Member, first: str) -> Diagnostic:
    return Diagnostic(
        code="KI279",
        summary="Turns that begin together",
        detail=f"{member.model} and {first} take turns in the group {member.group}, and both are started with"
        f" {member.profile}.",
        hint="Set `preload: false` on all of the group but one.",
        severity=Severity.WARNING,
    )
