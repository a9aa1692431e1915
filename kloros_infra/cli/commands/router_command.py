"""`kloros-infra router`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.ir.layout import Layout


@click.command("router")
@click.option(
    "--routing",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(Layout().absolute(Layout().routing)),
    show_default=True,
    help="The routing table that compile wrote; followed when it is replaced.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is written to the log: this and anything graver.",
)
def command(routing: Path, log_level: str) -> None:
    """Run the router until SIGTERM or SIGINT: ChemBus `llm.request`, OpenAI and Ollama over HTTP.

    The first signal finishes what is in flight, for 30 s at the most; a second one ends at once.
    """
    import gc
    import logging

    # What is imported and built at the start stays: looking through it again and again takes a tenth of the start.
    gc.disable()

    from kloros_infra.cli.router_root import root_of
    from kloros_infra.cli.router_wiring import router_outside
    from kloros_infra.cli.run_loop import run_loop
    from kloros_infra.daemon.run import Stop, run_router

    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(message)s")

    def ready() -> None:
        gc.freeze()
        gc.enable()
        logging.info("router: ready")

    async def serve() -> None:
        stop = Stop()
        stop.on_signals()
        async with router_outside(root_of(routing)) as outside:
            await run_router(str(routing), outside, stop=stop, on_ready=ready)

    run_loop(serve())
