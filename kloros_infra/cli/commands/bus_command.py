"""`kloros-infra bus`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import signal
import threading

import click


@click.command("bus")
@click.option("--xsub", metavar="ADDRESS", default="tcp://127.0.0.1:5556", show_default=True, help="Publishers' side.")
@click.option("--xpub", metavar="ADDRESS", default="tcp://127.0.0.1:5557", show_default=True, help="Subscribers' side.")
def command(xsub: str, xpub: str) -> None:
    """Run the ChemBus proxy until SIGTERM or SIGINT.

    KLR_CHEM_XSUB and KLR_CHEM_XPUB, or KLR_UMN_XSUB and KLR_UMN_XPUB, take precedence, as they do in KLoROS.
    """
    import os

    from kloros_infra.adapters.chembus import bus_addresses, run_proxy
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
    )
