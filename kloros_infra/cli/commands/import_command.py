"""`kloros-infra import`."""
# ruff: noqa: PLC0415 - imported on use, so that --help and completion are fast

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def _into_options(command: Command) -> Command:
    """Add --into and --dry-run."""
    into = click.option(
        "--into",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("models.yaml"),
        show_default=True,
        help="The models.yaml to add to; begun where there is none.",
    )
    dry_run = click.option("--dry-run", is_flag=True, help="Show what would be added; write nothing.")
    return into(dry_run(command))


_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))


@click.group("import")
def command() -> None:
    """Take models over from Ollama, llama-swap, or llama-server's presets.

    Nothing of theirs is changed. A report says what was taken over, and what could not be, and why.
    """


@command.command("ollama")
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder with `manifests` and `blobs`; by default $OLLAMA_MODELS, or where Ollama and its service keep it.",
)
@click.option("--verify", is_flag=True, help="Hash all weights now, instead of when apply brings them in.")
@_into_options
def ollama(models: tuple[str, ...], store: Path | None, into: Path, *, verify: bool, dry_run: bool) -> None:
    """Take over an Ollama store, or the MODELs named: weights where they lie, parameters, system prompts.

    The lock takes each sha256 from the name that Ollama gave the file when it checked it; apply hashes the file again
    before anything uses it.
    """
    from kloros_infra.cli.importing import add_to, take_from_ollama

    add_to(into, take_from_ollama(store, models, is_verifying=verify), is_dry_run=dry_run)


@command.command("llama-swap")
@_FILE
@_into_options
def llama_swap(file: Path, into: Path, *, dry_run: bool) -> None:
    """Take over the models that a llama-swap configuration serves with llama-server."""
    from kloros_infra.cli.importing import add_to, take_from_llama_swap

    add_to(into, take_from_llama_swap(file), is_dry_run=dry_run)


@command.command("llama-presets")
@_FILE
@_into_options
def llama_presets(file: Path, into: Path, *, dry_run: bool) -> None:
    """Take over the models of a preset file of llama-server's router mode."""
    from kloros_infra.cli.importing import add_to, take_from_llama_presets

    add_to(into, take_from_llama_presets(file), is_dry_run=dry_run)
