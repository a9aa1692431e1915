"""`kloros-infra route`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from kloros_infra.cli.options import DURATION, profile_option, root_option


@click.group("route")
def command() -> None:
    """Show how the router chooses who answers a request."""


@command.command("explain")
@click.option("--purpose", metavar="NAME", help="The purpose that the request states.")
@click.option("--model", metavar="NAME", help="The model or persona that it names.")
@click.option("--persona", metavar="NAME", help="The persona that it names.")
@click.option(
    "--kind",
    type=click.Choice(["chat", "vision", "embedding", "rerank"]),
    default="chat",
    show_default=True,
    help="What is asked for.",
)
@click.option("--min-context-tokens", type=click.IntRange(1), metavar="N", help="The context that it needs.")
@click.option("--cost-tier", type=click.Choice(["low", "medium", "high"]), help="What it may cost at most.")
@click.option("--max-latency", type=DURATION, metavar="TIME", help="Time to the first token at most, such as 2s.")
@click.option("--language", metavar="TAG", help="The language that the model is to know, such as de.")
@click.option("--prompt", default="", metavar="TEXT", help="Its last message, for the marks of purposes.")
@click.option("--tokens", type=click.IntRange(0), metavar="N", help="Its length, instead of the prompt's.")
@click.option("--source", metavar="NAME", help="The service that asks: its metadata.source_service.")
@click.option("--client", metavar="NAME", help="The client that asks, by its name in models.yaml.")
@click.option("--down", multiple=True, metavar="NAME", help="Suppose that an instance or a host is down; repeatable.")
@profile_option
@root_option
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compile this models.yaml, instead of reading the table that is installed.",
)
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of text.")
def explain(root: Path, file: Path | None, *, as_json: bool, **described: Any) -> None:
    """Show which candidates a request has, how they score, what is against each, and which is chosen.

    Nothing is asked of a running router: all is supposed to be ready but what --down names. Exit code 0: somebody would
    serve it, 2: nobody would.
    """
    from kloros_infra.cli.route import Supposed, explained, table_to_explain
    from kloros_infra.ir.catalog import CostTier, ModelKind
    from kloros_infra.router.explain import explanation_data, explanation_lines
    from kloros_infra.router.query import Refused

    tier, latency_s = described.pop("cost_tier"), described.pop("max_latency")
    kind = ModelKind(described.pop("kind"))
    cost_tier = CostTier(tier) if tier else None
    supposed = Supposed(kind=kind, cost_tier=cost_tier, max_latency_s=latency_s, **described)
    found = explained(*table_to_explain(root, file), supposed)
    if as_json:
        click.echo(json.dumps(explanation_data(found), indent=2, ensure_ascii=False))
    else:
        for line in explanation_lines(found):
            click.echo(line)
    if isinstance(found.outcome, Refused):
        sys.exit(2)
