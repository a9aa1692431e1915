"""What a unit of an installation wrote, its last lines or from now on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.adapters.followed_log import follow_file, follow_journal
from kloros_infra.cli.wiring import ManagerChoice, Target, service_manager
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.names import instance_of, instance_unit, is_instance, model_of


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
    """Find an installed unit by a model's name, an instance's, a service's of ours, or its own.

    Of a model's instances it is the one that runs. Raises ProblemsError when nothing is called so.
    """
    units = {path.name for path in (where.root / where.layout.units).glob("*.service")}
    for unit in (asked, instance_unit(asked), f"kloros-{asked}.service"):
        if unit in units:
            return unit
    names = {instance_of(name).removeprefix("kloros-"): name for name in units}
    instances = sorted(unit for name, unit in names.items() if model_of(name) == asked and is_instance(unit))
    if instances:
        return _running_one(instances, where)
    known = sorted({*names, *(model_of(name) for name, unit in names.items() if is_instance(unit))})
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


def _running_one(instances: Sequence[str], where: Target) -> str:
    states = service_manager(where).states(instances)
    return next((unit for unit in instances if unit in states and states[unit].is_up), instances[0])
