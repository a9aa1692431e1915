"""`kloros-infra await_rpc`: what a unit runs before its llama-server."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import click

from kloros_infra.cli.options import DURATION

LIMIT_S = 20.0
"""Below TimeoutStartSec= of the units that run this, so that the reason is said and not cut off."""


@click.command("await_rpc", hidden=True)
@click.argument("endpoints", nargs=-1, required=True, metavar="ADDRESS:PORT...")
@click.option("--wait", "limit_s", type=DURATION, default=LIMIT_S, metavar="TIME", help="For how long, such as 20s.")
def command(endpoints: tuple[str, ...], limit_s: float) -> None:
    """Wait until RPC servers of other hosts can be used; exit 1 and say why where one cannot."""
    from kloros_infra.adapters.clock import SystemClock
    from kloros_infra.adapters.rpc_servers import SocketRpcServers
    from kloros_infra.errors import ObstacleError
    from kloros_infra.executor.rpc_readiness import await_free

    problems = await_free(endpoints, SocketRpcServers(), SystemClock(), limit_s=limit_s)
    if problems:
        raise ObstacleError(problems)
