"""`kloros-infra bus`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kloros_infra.cli.options import DURATION

Command = TypeVar("Command", bound=Callable[..., Any])


def _proxy_options(command: Command) -> Command:
    """Add what the proxy takes."""
    for option in (
        click.option("--monitor", is_flag=True, help="Print connections, disconnections and drops as they happen."),
        click.option(
            "--xpub",
            metavar="ADDRESS",
            default="tcp://127.0.0.1:5557",
            show_default=True,
            help="Where subscribers connect to.",
        ),
        click.option(
            "--xsub",
            metavar="ADDRESS",
            default="tcp://127.0.0.1:5556",
            show_default=True,
            help="Where publishers connect to.",
        ),
    ):
        command = option(command)
    return command


def _address_options(command: Command) -> Command:
    """Add where a running bus is."""
    for option in (
        click.option(
            "--root",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("/"),
            show_default=True,
            help="The installation whose bus it is.",
        ),
        click.option("--xpub", metavar="ADDRESS", help="Where subscribers connect to, instead of as installed."),
        click.option("--xsub", metavar="ADDRESS", help="Where publishers connect to, instead of as installed."),
    ):
        command = option(command)
    return command


@click.group("bus", invoke_without_command=True)
@_proxy_options
@click.pass_context
def command(context: click.Context, xsub: str, xpub: str, *, monitor: bool) -> None:
    """Run the ChemBus proxy until SIGTERM or SIGINT; with a command, look at one that runs.

    KLR_CHEM_XSUB and KLR_CHEM_XPUB, or KLR_UMN_XSUB and KLR_UMN_XPUB, take precedence, as they do in KLoROS.
    """
    if context.invoked_subcommand is None:
        _serve(xsub, xpub, is_monitored=monitor)


@command.command("run")
@_proxy_options
def run(xsub: str, xpub: str, *, monitor: bool) -> None:
    """Run the ChemBus proxy until SIGTERM or SIGINT."""
    _serve(xsub, xpub, is_monitored=monitor)


def _serve(xsub: str, xpub: str, *, is_monitored: bool) -> None:
    import os

    from kloros_infra.adapters.bus_address import bus_addresses
    from kloros_infra.adapters.bus_proxy import run_proxy
    from kloros_infra.ir.routing import RoutedBus

    addresses = bus_addresses(os.environ, RoutedBus(xsub=xsub, xpub=xpub))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_proxy(
        addresses.xsub,
        addresses.xpub,
        stop=stop,
        on_bound=lambda publishers, subscribers: click.echo(f"ChemBus: {publishers} -> {subscribers}"),
        on_line=_echo_now if is_monitored else None,
    )


def _echo_now(line: str) -> None:
    from datetime import datetime

    click.echo(f"{datetime.now():%H:%M:%S} {line}")
    sys.stdout.flush()


@command.command("status")
@_address_options
@click.option("--timeout", type=DURATION, metavar="TIME", default="2s", show_default=True, help="When to give up.")
@click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of text.")
def status(root: Path, xsub: str | None, xpub: str | None, timeout: float, *, as_json: bool) -> None:
    """Show what passed through the bus by topic, who is connected, and what was dropped."""
    from kloros_infra.adapters.bus_client import ask_status
    from kloros_infra.cli.bus_output import status_lines
    from kloros_infra.cli.bus_payload import where_is_bus

    found = ask_status(where_is_bus(root, xsub, xpub).xpub, timeout_s=timeout)
    if as_json:
        click.echo(found.model_dump_json())
        return
    for line in status_lines(found):
        click.echo(line)


@command.command("tail")
@click.argument("topics", nargs=-1, metavar="[TOPIC]...")
@_address_options
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole payload.")
def tail(  # noqa: PLR0913 - one argument for each option
    topics: tuple[str, ...], root: Path, xsub: str | None, xpub: str | None, count: int | None, *, as_json: bool
) -> None:
    """Print messages as they come, until Ctrl-C: those whose topic begins with a TOPIC, or all."""
    from itertools import islice

    from kloros_infra.adapters.bus_client import follow
    from kloros_infra.cli.bus_output import message_json, message_line
    from kloros_infra.cli.bus_payload import where_is_bus
    from kloros_infra.cli.terminal import terminal_width

    messages = follow(where_is_bus(root, xsub, xpub).xpub, topics)
    try:
        for seen in islice(messages, count):
            click.echo(message_json(seen) if as_json else message_line(seen, width=terminal_width()))
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass  # who follows ends it so
    finally:
        messages.close()


@command.command("pub")
@click.argument("topic")
@click.argument("payload", metavar="JSON|@FILE|-")
@_address_options
@click.option("--ecosystem", default="infra", show_default=True, metavar="NAME", help="Whose message it is.")
@click.option("--raw", is_flag=True, help="Send the payload as it is, without KLoROS's envelope.")
@click.option("--timeout", type=DURATION, metavar="TIME", default="5s", show_default=True, help="When to give up.")
def pub(  # noqa: PLR0913, PLR0917 - one argument for each option
    topic: str,
    payload: str,
    root: Path,
    xsub: str | None,
    xpub: str | None,
    ecosystem: str,
    timeout: float,
    *,
    raw: bool,
) -> None:
    """Publish one message, and see to it that the bus passes it on: exit code 1 when it does not.

    The payload becomes the envelope's `facts`. Whether anybody is subscribed is not known; `tail` shows what arrives.
    """
    from kloros_infra.adapters.bus_client import publish
    from kloros_infra.cli.bus_payload import payload_of, where_is_bus

    data = payload_of(payload, topic, ecosystem, is_raw=raw)
    publish(where_is_bus(root, xsub, xpub), topic, data, timeout_s=timeout)
    click.echo(f"Sent on {topic}: {len(data)} bytes.")
