"""Read the options of plan; refuse those that contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from kloros_infra.adapters.output_file import is_stream
from kloros_infra.cli.plan_output import PlanForms
from kloros_infra.cli.planning import read_suppositions
from kloros_infra.planner.request import PlanRequest

# Pairs that cannot be meant together, or of which one would be passed over, by the names that a person writes.
CONTRADICTIONS = (
    ("--destroy", "--only", "removing a part is done by taking it out of models.yaml"),
    ("--destroy", "--replace", "what is removed is not restarted"),
    ("--destroy", "--if", "everything goes whatever GPUs there are"),
    ("--destroy", "--matrix", "nothing runs afterwards"),
    ("--destroy", "--host", "everything goes whatever models.yaml says"),
    ("--host", "--profile", "a host that lends its cards has no profile"),
    ("--host", "--if", "a host that lends its cards has no profile"),
    ("--host", "--matrix", "a host that lends its cards has no profile"),
    ("--destroy", "--detected", "everything goes whatever cards there are"),
    ("--host", "--detected", "this machine's cards are not that host's"),
    ("--destroy", "--profile", "all profiles go"),
    ("--destroy", "--reset-pins", "nothing is started"),
    ("--profile", "--if", "the GPUs choose the profile"),
    ("--out", "--if", "what is supposed cannot be applied"),
    ("--out", "--matrix", "a matrix is no plan"),
    ("--matrix", "--profile", "it shows all of them"),
    ("--matrix", "--if", "it shows every set of GPUs"),
    ("--matrix", "--only", "it shows all instances"),
    ("--matrix", "--replace", "it compares nothing"),
    ("--matrix", "--reset-pins", "it compares nothing"),
    ("--matrix", "--diff", "it compares nothing"),
    ("--matrix", "--drift", "it compares nothing"),
    ("--json", "--markdown", "standard output holds one of them; --json-into writes the other to a file"),
    ("--json", "--diff", "a diff is text"),
    ("--json", "--drift", "JSON holds harmless differences in any case"),
)


def read_options(options: Mapping[str, Any]) -> tuple[PlanRequest, PlanForms]:
    """Settle what is to be planned and how it is to be written; raise UsageError on contradictions."""
    _refuse_contradictions(options)
    request = PlanRequest(
        file=str(options["file"]),
        root=str(options["root"]),
        manager=options["manager"],
        profile=options["profile"],
        supposed=_suppositions(options["supposed"]),
        only=options["only"],
        replaced=options["replaced"],
        is_destroy=options["is_destroy"],
        is_with_weights=options["with_weights"],
        resets_pins=options["reset_pins"],
        host=options["host"],
        is_detected=options["detected"],
    )
    forms = PlanForms(
        form="json" if options["is_json"] else "markdown" if options["is_markdown"] else "text",
        out=options["out"],
        json_into=options["json_into"],
        is_matrix=options["is_matrix"],
        is_diff=options["is_diff"],
        is_drift=options["is_drift"],
    )
    return request, forms


def _refuse_contradictions(options: Mapping[str, Any]) -> None:
    given = {
        "--destroy": options["is_destroy"],
        "--only": options["only"],
        "--replace": options["replaced"],
        "--reset-pins": options["reset_pins"],
        "--if": options["supposed"],
        "--matrix": options["is_matrix"],
        "--profile": options["profile"],
        "--out": options["out"],
        "--host": options["host"],
        "--detected": options["detected"],
        "--json": options["is_json"],
        "--markdown": options["is_markdown"],
        "--diff": options["is_diff"],
        "--drift": options["is_drift"],
    }
    for one, other, reason in CONTRADICTIONS:
        if given[one] and given[other]:
            raise click.UsageError(f"{one} and {other} contradict each other: {reason}.")
    if options["with_weights"] and not options["is_destroy"]:
        raise click.UsageError("--with-weights goes with --destroy: nothing else removes weights.")
    if options["out"] is not None and is_stream(options["out"]):
        raise click.UsageError(f"--out takes a file, and {options['out']} is a device or a pipe.")


def _suppositions(words: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    try:
        return read_suppositions(words)
    except ValueError as error:
        raise click.UsageError(f"--if takes gpu=NAME:absent or gpu=NAME:present, not {error}.") from error
