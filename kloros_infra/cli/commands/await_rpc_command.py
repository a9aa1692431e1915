"""`kloros-infra await_rpc`: what a unit runs before its llama-server."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from typing import Any

import click

from kloros_infra.cli.options import DURATION
from kloros_infra.diagnostics import Problems

LAST_PORT = 65535


class _Endpoint(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """An address and a port."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what cannot be connected to."""
        address, _, port = str(value).rpartition(":")
        # Decimal digits of other scripts are no port for anybody else.
        if not address or not (port.isascii() and port.isdecimal()) or not 1 <= int(port[:6]) <= LAST_PORT:
            self.fail(f"{value!r} is not ADDRESS:PORT, such as 100.64.0.7:50052.", param, ctx)
        return value


@click.command("await_rpc", hidden=True)
@click.argument("endpoints", nargs=-1, required=True, metavar="ADDRESS:PORT...", type=_Endpoint())
@click.option("--wait", "limit_s", type=DURATION, metavar="TIME", help="For how long, such as 20s; else for ever.")
def command(endpoints: tuple[str, ...], limit_s: float | None) -> None:
    """Wait until RPC servers of other hosts can be used; exit 1 and say why where one cannot."""
    from kloros_infra.adapters.clock import SystemClock
    from kloros_infra.adapters.rpc_servers import SocketRpcServers
    from kloros_infra.errors import ObstacleError
    from kloros_infra.executor.rpc_readiness import Patience, await_servers

    patience = Patience(limit_s, tell=_tell)
    problems = await_servers(endpoints, SocketRpcServers(), SystemClock(), patience)
    if problems:
        raise ObstacleError(problems)


def _tell(problems: Problems) -> None:
    """Write what is waited for to the unit's log."""
    for problem in problems:
        click.echo(f"waiting: {problem.code} {problem.detail}", err=True)
