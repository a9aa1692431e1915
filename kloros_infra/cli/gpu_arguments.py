"""What the `gpu` commands take, and how they write what came of it."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from kloros_infra.adapters.pci import PROCFS, SYSFS
from kloros_infra.cli.gpu_options import facts_options
from kloros_infra.cli.options import root_option
from kloros_infra.errors import KlorosError

if TYPE_CHECKING:
    from kloros_infra.cli.gpu_locking import Outcome
    from kloros_infra.cli.gpu_site import GpuSite

Command = TypeVar("Command", bound=Callable[..., Any])


def site_at(root: Path, *, sysfs: Path = SYSFS, procfs: Path = PROCFS) -> GpuSite:
    """Read what is installed below a root."""
    from kloros_infra.cli.gpu_site import read_site
    from kloros_infra.cli.gpu_wiring import GpuPlaces
    from kloros_infra.cli.wiring import ManagerChoice, target

    return read_site(GpuPlaces(target(root, ManagerChoice.AUTO), sysfs, procfs))


def with_site(command: Command) -> Command:
    """Add --root and --json, and call with what is installed below that root.

    Where nothing is installed, no name is that of a GPU or profile of ours.
    """

    @wraps(command)
    def run(root: Path, sysfs: Path, procfs: Path, **said: Any) -> Any:
        from kloros_infra.cli.gpu_site import NothingInstalledError, UnknownNameError

        try:
            site = site_at(root, sysfs=sysfs, procfs=procfs)
        except NothingInstalledError as error:
            raise UnknownNameError(error.problems) if NAMES & said.keys() else error from None
        return command(site, **said)

    is_json = click.option("--json", "as_json", is_flag=True, help="One versioned JSON object instead of text.")
    return root_option(is_json(facts_options(cast("Command", run))))


class Reason(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """What a GPU is locked out for, fit to be written and shown."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give as much of it as is shown anywhere."""
        from kloros_infra.topology.lockouts import LONGEST_REASON

        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("it is not UTF-8 text", param, ctx)
        return text[:LONGEST_REASON]


class GpuName(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """A GPU by its name in models.yaml, its UUID, its PCI address or its place among them."""

    name = "gpu"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click calls it so
        """Offer the names of the cards."""
        return _offered(ctx, incomplete, lambda site: [card.name for card in site.cards])


class ProfileName(click.ParamType):  # type: ignore[type-arg]  # likewise
    """A profile of models.yaml."""

    name = "profile"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click calls it so
        """Offer the names of the profiles."""
        return _offered(ctx, incomplete, lambda site: list(site.table.profile_names))


def _offered(ctx: click.Context, incomplete: str, names: Callable[[GpuSite], list[str]]) -> list[CompletionItem]:
    """Offer the names that begin so; none where nothing is installed that could be read."""
    with suppress(KlorosError, OSError):
        site = site_at(ctx.params.get("root") or Path("/"))
        return [CompletionItem(name) for name in names(site) if name.startswith(incomplete)]
    return []


REASON = Reason()
NAMES = frozenset({"gpu", "profile"})
"""The arguments that name something of ours."""
gpu_argument = click.argument("gpu", type=GpuName())
profile_argument = click.argument("profile", type=ProfileName())


def echo_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Say what came of it."""
    click.echo(json.dumps(outcome.data(), indent=2) if as_json else outcome.words)
