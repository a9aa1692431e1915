"""`kloros-infra placement`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from kloros_infra.cli.commands.plan_command import PlanCommand
from kloros_infra.cli.options import file_option, manager_option, root_option


class _Svg(click.Path):
    """A file whose name says that it is an SVG."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse other kinds of pictures."""
        if not str(value).endswith(".svg"):
            self.fail(f"{value!r} does not end in .svg, the one kind of picture that is written.", param, ctx)
        return super().convert(value, param, ctx)


class _Gguf(click.Path):
    """A file that is there and begins as a GGUF does: llama-server would not say more than that it failed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse anything else before a server is started for it."""
        path = Path(str(super().convert(value, param, ctx)))
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                self.fail(f"{value!r} is no GGUF file.", param, ctx)
        return path


class _Context(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs alone
    """A number of tokens that models.yaml would take for a context."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what models.yaml refuses."""
        from kloros_infra.ir.written import LEAST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS

        return click.IntRange(LEAST_CONTEXT_TOKENS, MOST_CONTEXT_TOKENS).convert(value, param, ctx)


_PROFILE = click.option("--profile", metavar="NAME", help="Only under this profile.")
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
_PLOT = click.option(
    "--plot", type=_Svg(path_type=Path, dir_okay=False), metavar="FILE.svg", help="Draw it as a picture as well."
)


@click.group("placement")
def command() -> None:
    """Show, compare and verify where models are placed, and suppose other cards."""


@command.command()
@click.argument("model", required=False)
@_PROFILE
@file_option
@_JSON
@_PLOT
def show(model: str | None, profile: str | None, file: Path, *, as_json: bool, plot: Path | None) -> None:
    """Show what takes the memory of each device, which layers are there, and how fast that is foreseen to be."""
    from kloros_infra.adapters.output_file import write_output
    from kloros_infra.cli.placement_json import show_data
    from kloros_infra.cli.placement_svg import panel_of, picture
    from kloros_infra.cli.placement_text import show_lines
    from kloros_infra.cli.placements import placed_of, read_view

    found = placed_of(read_view(file), model, profile)
    if plot is not None:
        write_output(plot, picture([panel_of(one) for one in found]))
    if as_json:
        click.echo(json.dumps(show_data(found), indent=2))
        return
    for number, one in enumerate(found):
        if number:
            click.echo()
        for line in show_lines(one):
            click.echo(line)


@command.command()
@click.argument("model", required=False)
@_PROFILE
@file_option
@_JSON
@_PLOT
def compare(model: str | None, profile: str | None, file: Path, *, as_json: bool, plot: Path | None) -> None:
    """Set engines side by side: the solver, models.yaml's own layers, gguf-tensor-overrider, llama-server by itself.

    The one in use is marked with a star. `fit` and `default` are what llama-server does, in whole layers.
    """
    from kloros_infra.adapters.output_file import write_output
    from kloros_infra.cli.placement_json import compare_data
    from kloros_infra.cli.placement_svg import panels_of, picture
    from kloros_infra.cli.placement_text import compare_lines
    from kloros_infra.cli.placements import by_engines, placed_of, read_view

    view = read_view(file)
    compared = [(one, by_engines(view, one)) for one in placed_of(view, model, profile)]
    if plot is not None:
        write_output(plot, picture([panel for one, found in compared for panel in panels_of(view, one, found)]))
    if as_json:
        click.echo(json.dumps(compare_data(compared), indent=2))
        return
    for number, (one, found) in enumerate(compared):
        if number:
            click.echo()
        for line in compare_lines(one, found):
            click.echo(line)


@command.command(cls=PlanCommand)
@click.argument("model", required=False)
@click.argument("profile", required=False)
@file_option
@root_option
@manager_option
@click.option(
    "--weights",
    type=_Gguf(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.gguf",
    help="The weights of MODEL, where neither the store nor their own place has them.",
)
def verify(model: str | None, profile: str | None, file: Path, **options: Any) -> None:
    """Ask the real llama-server, before it loads any weight, whether placements fit and land where they are planned.

    Exit code 0: all is as planned, 2: something is not, 1: something could not be asked, as its weights are not here.
    """
    from kloros_infra.cli.placements import errors_about, model_called, placed_of, read_view
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.verifying import Places, verified
    from kloros_infra.cli.wiring import target

    weights: Path | None = options["weights"]
    if weights is not None and model is None:
        raise click.UsageError("--weights needs MODEL: it says whose weights they are.")
    view = read_view(file)
    found = placed_of(view, model, profile)
    result = verified(view, found, Places(target(options["root"], options["manager"]), weights), click.echo)
    unplaced = errors_about(view, model and model_called(view, model).id, profile)
    show_problems((*result.problems, *unplaced), view.project.sources)
    sys.exit(result.exit_code or bool(unplaced))


@command.command("what-if")
@click.option("--gpu", "gpus", multiple=True, metavar="NAME[:MEMORY]", help="Suppose this card. Repeatable.")
@click.option("--without", multiple=True, metavar="NAME", help="Suppose this card is gone. Repeatable.")
@click.option("--context", type=_Context(), metavar="TOKENS", help="Suppose this context for each request.")
@click.option("--model", metavar="MODEL", help="Tell of this model alone.")
@click.option("--profile", metavar="NAME", help="Change the cards of this profile; the first one by default.")
@file_option
@_JSON
def what_if(file: Path, *, as_json: bool, **asked: Any) -> None:
    """Say what other cards or another context would change: what fits, and how fast.

    A card of a name that the profile has takes its place; another one is added. NAME is a card of models.yaml, or a
    well-known one such as rtx3090.
    """
    from kloros_infra.cli.placement_json import outlook_data
    from kloros_infra.cli.placement_text import outlook_lines
    from kloros_infra.cli.placements import read_view
    from kloros_infra.cli.render import show_problems
    from kloros_infra.cli.supposing import Asked, suppose

    both = {word.partition(":")[0] for word in asked["gpus"]} & set(asked["without"])
    if both:
        raise click.UsageError(f"--gpu and --without contradict each other: both name {', '.join(sorted(both))}.")
    view = read_view(file)
    found, problems = suppose(view, Asked(**asked))
    if as_json:
        click.echo(json.dumps(outlook_data(found, problems), indent=2))
    else:
        for line in outlook_lines(found):
            click.echo(line)
        show_problems(problems, view.project.sources)
    sys.exit(1 if any(problem in view.problems for problem in problems) else 0)
