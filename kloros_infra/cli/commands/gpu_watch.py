"""`kloros-infra gpu watch`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from pathlib import Path

import click

from kloros_infra.cli.gpu_options import facts_options
from kloros_infra.cli.options import manager_option, root_option


@click.command("watch")
@root_option
@manager_option
@facts_options
def command(root: Path, manager: str, sysfs: Path, procfs: Path) -> None:
    """Follow the cards and switch profiles, until SIGTERM or SIGINT: the resident agent.

    kloros-gpu.service runs this. It may be killed at any time: whoever reconciles next goes on.
    """
    import gc
    import logging
    import signal

    from kloros_infra.adapters.readiness_notice import notify_ready
    from kloros_infra.cli.gpu_wiring import GpuPlaces, watch_of
    from kloros_infra.cli.wiring import target

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    watch = watch_of(GpuPlaces(target(root, manager), sysfs, procfs))
    # An exception that a handler raises comes out anywhere, also where a lock is just being given back.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watch.stop())

    def ready() -> None:
        # What was imported and read at the start stays.
        gc.collect()
        gc.freeze()
        notify_ready()
        logging.info("agent: ready")

    watch.run(ready)
