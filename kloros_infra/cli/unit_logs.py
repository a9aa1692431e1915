"""What a unit of an installation wrote, its last lines or from now on."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.adapters.followed_log import follow_file, follow_journal
from kloros_infra.cli.wiring import ManagerChoice, Target, service_manager
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError


def log_lines(where: Target, asked: str, lines: int, *, is_followed: bool) -> Iterator[str]:
    """Give the last lines of a unit, and with `is_followed` all that come after them."""
    unit = installed_unit(where, asked)
    if not is_followed:
        yield from service_manager(where).log_tail(unit, lines)
    elif where.manager is ManagerChoice.SYSTEMD:
        yield from follow_journal(unit, lines)
    else:
        yield from follow_file(where.root, unit, lines)


def installed_unit(where: Target, asked: str) -> str:
    """Find an installed unit by an instance's name, a service's of ours, or its own; raise ProblemsError otherwise."""
    units = {path.name for path in (where.root / where.layout.units).glob("*.service")}
    for unit in (asked, f"llama@{asked}.service", f"kloros-{asked}.service"):
        if unit in units:
            return unit
    known = sorted(name.removeprefix("llama@").removeprefix("kloros-").removesuffix(".service") for name in units)
    raise ProblemsError(
        [
            Diagnostic(
                code="KI524",
                summary="Unknown instance",
                detail=f"{asked} is not installed below {where.root}.",
                hint=suggest(asked, known),
            )
        ]
    )
