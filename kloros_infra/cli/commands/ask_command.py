"""`kloros-infra ask`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from kloros_infra.cli.options import file_option
from kloros_infra.ir.written import parse_duration


class DurationType(click.ParamType[float]):
    """A duration in its written form, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read `30s`; fail with what would be accepted."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("ask")
@click.argument("prompt")
@file_option
@click.option("--purpose", metavar="NAME", help="What the question is for; the default purpose when left out.")
@click.option("--model", metavar="NAME", help="Ask this model: id, name or alias.")
@click.option("--persona", metavar="NAME", help="Ask as this persona.")
@click.option("--max-tokens", type=click.IntRange(1), help="Length of the answer at the most.")
@click.option("--timeout", type=DurationType(), default="60s", show_default=True, help="When to give up.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as it came.")
def command(  # noqa: PLR0913, PLR0917 - one argument for each option
    prompt: str,
    file: Path,
    purpose: str | None,
    model: str | None,
    persona: str | None,
    max_tokens: int | None,
    timeout: float,
    *,
    as_json: bool,
) -> None:
    """Ask one question over ChemBus and print the answer. Exit code 1 when it is refused or nobody answers."""
    from kloros_infra.adapters.chembus import ChemBusClient, bus_addresses
    from kloros_infra.cli.asking import reply_footer
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.wiring import compile_project
    from kloros_infra.ir.routing import RoutedBus

    catalog = compile_project(read_project(file)).catalog
    addresses = bus_addresses(os.environ, RoutedBus(xsub=catalog.bus.xsub, xpub=catalog.bus.xpub))

    async def ask() -> dict[str, Any]:
        async with ChemBusClient(addresses) as client:
            wishes = {"purpose": purpose, "model": model, "persona": persona, "max_tokens": max_tokens}
            return await client.ask(prompt, timeout_s=timeout, **wishes)

    reply = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps(reply, indent=2))
    elif reply["success"]:
        click.echo(reply["response"])
        click.echo(reply_footer(reply["metadata"]), err=True)
    else:
        click.echo(f"{reply['error']['code']}: {reply['error']['message']}", err=True)
    sys.exit(0 if reply["success"] else 1)
