"""`kloros-infra why`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from kloros_infra.cli.options import file_option


@click.command("why")
@click.argument("asked", metavar="UNIT[:KEY]")
@file_option
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object a line.")
def command(asked: str, file: Path, *, as_json: bool) -> None:
    """Say why a directive stands in a generated unit: the line of models.yaml, the rule, and where that is written.

    UNIT is a unit or an instance such as code-max; KEY is a directive such as MemoryMax or a variable such as
    LLAMA_ARG_CTX_SIZE. Without a KEY all of them are told.
    """
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.why import reason_lines, reasons
    from kloros_infra.cli.wiring import compile_project
    from kloros_infra.planner.explain_json import Row, json_lines

    project = read_project(file)
    unit, found = reasons(project, compile_project(project), asked)
    rows: Iterable[Row] = ({"type": "reason", "unit": unit, **asdict(reason)} for reason in found)
    lines = json_lines(rows) if as_json else (line for reason in found for line in reason_lines(unit, reason))
    for line in lines:
        click.echo(line)
