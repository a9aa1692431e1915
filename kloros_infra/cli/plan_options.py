"""Read the options of plan; refuse those that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from kloros_infra.cli.plan_output import PlanForms
from kloros_infra.cli.planning import read_suppositions
from kloros_infra.planner.request import PlanRequest

# Pairs that cannot be meant together, by the names that a person writes.
CONTRADICTIONS = (
    ("--destroy", "--only", "removing a part is done by taking it out of models.yaml"),
    ("--destroy", "--replace", "what is removed is not restarted"),
    ("--destroy", "--if", "everything goes whatever GPUs there are"),
    ("--destroy", "--matrix", "nothing runs afterwards"),
    ("--destroy", "--host", "everything goes whatever models.yaml says"),
    ("--host", "--profile", "a host that lends its cards has no profile"),
    ("--host", "--if", "a host that lends its cards has no profile"),
    ("--host", "--matrix", "a host that lends its cards has no profile"),
    ("--profile", "--if", "the GPUs choose the profile"),
    ("--out", "--if", "what is supposed cannot be applied"),
    ("--out", "--matrix", "a matrix is no plan"),
)


def read_options(options: Mapping[str, Any]) -> tuple[PlanRequest, PlanForms]:
    """Settle what is to be planned and how it is to be written; raise UsageError on contradictions."""
    given = {
        "--destroy": options["is_destroy"],
        "--only": options["only"],
        "--replace": options["replaced"],
        "--if": options["supposed"],
        "--matrix": options["is_matrix"],
        "--profile": options["profile"],
        "--out": options["out"],
        "--host": options["host"],
    }
    for one, other, reason in CONTRADICTIONS:
        if given[one] and given[other]:
            raise click.UsageError(f"{one} and {other} contradict each other: {reason}.")
    request = PlanRequest(
        file=str(options["file"]),
        root=str(options["root"]),
        manager=options["manager"],
        profile=options["profile"],
        supposed=_suppositions(options["supposed"]),
        only=options["only"],
        replaced=options["replaced"],
        is_destroy=options["is_destroy"],
        resets_pins=options["reset_pins"],
        host=options["host"],
    )
    forms = PlanForms(
        form=options["form"] or "text",
        out=options["out"],
        json_into=options["json_into"],
        is_matrix=options["is_matrix"],
        is_diff=options["is_diff"],
        is_drift=options["is_drift"],
    )
    return request, forms


def _suppositions(words: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    try:
        return read_suppositions(words)
    except ValueError as error:
        raise click.UsageError(f"--if takes gpu=NAME:absent or gpu=NAME:present, not {error}.") from error
