"""`kloros-infra gpu`: GPUs that come and go. Sub-commands live one to a module beside this one, imported on use."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "list": "Show the GPUs: which may be used, why, and who uses them.",
    "lock": "Keep a GPU from our models, for a while.",
    "unlock": "End what `gpu lock` did.",
    "release": "Give a GPU up now, and say whether it is free.",
    "return": "Take a GPU back that was given up.",
    "pin": "Have a profile active whenever its GPUs may be used.",
    "unpin": "Have the best profile active again.",
    "clear": "Take a GPU out of quarantine.",
    "watch": "Follow the cards and switch profiles: the resident agent.",
    "reconcile": "Look at the cards once, and switch to the profile that they allow.",
    "replan": "Make a plan for GPUs that are not as they were compiled for.",
}


class LazyGroup(click.Group):
    """A group whose `NAME` is the click command `command` of `cli.commands.gpu_NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"kloros_infra.cli.commands.gpu_{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group("gpu", cls=LazyGroup)
def command() -> None:
    """Follow GPUs that come and go; lock one out, give it up, take it back."""
