"""`kloros-infra completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--program", type=click.Choice(["kloros-infra", "modelctl"]), default="kloros-infra", show_default=True)
def command(shell: str, program: str) -> None:
    """Print a completion script for SHELL.

    \b
    bash   eval "$(kloros-infra completion bash)"    in ~/.bashrc
    zsh    eval "$(kloros-infra completion zsh)"     in ~/.zshrc
    fish   kloros-infra completion fish > ~/.config/fish/completions/kloros-infra.fish
    """
    from kloros_infra.cli.modelctl import modelctl  # noqa: PLC0415 - only one of the two is needed
    from kloros_infra.cli.program import program as kloros_infra  # noqa: PLC0415 - breaks the import cycle

    completion = get_completion_class(shell)
    if completion is None:
        raise click.ClickException(f"click has no completion for {shell}")
    root = modelctl if program == "modelctl" else kloros_infra
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    click.echo(completion(root, {}, program, variable).source())
