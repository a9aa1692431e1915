"""`kloros-infra ask`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kloros_infra.ir.written import parse_duration

if TYPE_CHECKING:
    from kloros_infra.client import Addresses, Answer, Stream

MODELS_YAML = Path("models.yaml")


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
@click.option(
    "-f",
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The models.yaml that says where the router is, instead of ./models.yaml.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="The installation whose router it is; / where there is no models.yaml.",
)
@click.option("--purpose", metavar="NAME", help="What the question is for; the default purpose when left out.")
@click.option("--model", metavar="NAME", help="Ask this model: id, name or alias.")
@click.option("--persona", metavar="NAME", help="Ask as this persona.")
@click.option("--max-tokens", type=click.IntRange(1), help="Length of the answer at the most.")
@click.option("--timeout", type=DurationType(), default="60s", show_default=True, help="When to give up.")
@click.option("--stream", "is_stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--json", "as_json", is_flag=True, help="Print the reply as it came.")
def command(  # noqa: PLR0913, PLR0917 - one argument for each option
    prompt: str,
    file: Path | None,
    root: Path | None,
    purpose: str | None,
    model: str | None,
    persona: str | None,
    max_tokens: int | None,
    timeout: float,
    *,
    is_stream: bool,
    as_json: bool,
) -> None:
    """Ask the router one question and print the answer. Exit code 1 when it is refused or nobody answers.

    Asks at the router's direct endpoint, else over ChemBus: as models.yaml has them, as installed, or as usual.
    KLOROS_LLM_DIRECT, KLR_CHEM_* and KLR_UMN_* name others.
    """
    from kloros_infra.client import Client, LlmError

    addresses = where_to_ask(file, root)
    wishes: dict[str, Any] = {
        "purpose": purpose,
        "model": model,
        "persona": persona,
        "max_tokens": max_tokens,
        "timeout_s": timeout,
    }
    try:
        with Client(addresses.overridden()) as client:
            if as_json:
                print_reply(client.request(prompt, **wishes))
            elif is_stream:
                print_stream(client.stream(prompt, **wishes))
            else:
                print_answer(client.ask(prompt, **wishes))
    except LlmError as error:
        click.echo(f"{error.code}: {error.message}\n{error.hint}".rstrip(), err=True)
        sys.exit(1)


def where_to_ask(file: Path | None, root: Path | None) -> Addresses:
    """Say where the router is: as a models.yaml has it that is named or lies here, as it is installed, as usual."""
    from kloros_infra.cli.bus_payload import installed_bus
    from kloros_infra.cli.project import read_project
    from kloros_infra.cli.wiring import compile_project
    from kloros_infra.client import Addresses

    if file is None and root is None and MODELS_YAML.is_file():
        file = MODELS_YAML
    if file is not None:
        spec = compile_project(read_project(file)).catalog.bus
        return Addresses(spec.direct, spec.xsub, spec.xpub)
    bus = installed_bus(root or Path("/"))
    return Addresses() if bus is None else Addresses(bus.direct, bus.xsub, bus.xpub)


def print_reply(reply: Mapping[str, Any]) -> None:
    """Print a reply as it came, and end with 1 where it is a refusal."""
    click.echo(json.dumps(reply, indent=2))
    sys.exit(0 if reply["success"] else 1)


def print_stream(stream: Stream) -> None:
    """Print an answer as it comes, then who gave it."""
    for piece in stream:
        click.echo(piece, nl=False)
    click.echo()
    print_footer(stream.answer)


def print_answer(answer: Answer) -> None:
    """Print an answer, then who gave it."""
    click.echo(answer.text)
    print_footer(answer)


def print_footer(answer: Answer | None) -> None:
    """Say who answered, and how fast."""
    from kloros_infra.cli.asking import bus_answer

    if answer is not None:
        click.echo(str(bus_answer(answer)), err=True)
