"""`kloros-infra`: the command line of the compiler, of plan and apply, and of the resident services.

Sub-commands are imported when they are asked for: `--help` and shell completion stay fast.
"""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from contextlib import suppress

import click

from kloros_infra import __version__
from kloros_infra.cli.render import show_problems, texts_at
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError

COMMANDS = {
    "init": "Write a commented models.yaml for this machine.",
    "validate": "Check models.yaml and its lock; say everything that is wrong.",
    "show": "Show what models.yaml says, and where each value comes from.",
    "explain": "Explain the settings of models.yaml.",
    "schema": "Print the JSON Schema of models.yaml, for editors.",
    "lock": "Pin each model's weights and header facts into models.lock.yaml.",
    "import": "Take models over from Ollama, llama-swap or llama-server's presets.",
    "export": "Write what runs here for llama-swap, llama-server's presets or LiteLLM.",
    "compile": "Write the generated units, env files and routing table.",
    "placement": "Show, compare and verify where models are placed; suppose other cards.",
    "plan": "Show what apply would change.",
    "apply": "Make the machine match models.yaml.",
    "adopt": "Take over a file that stands in the way.",
    "confirm": "Keep what `apply --confirm` did.",
    "generations": "List the generations that this machine keeps.",
    "rollback": "Go back to an earlier generation.",
    "recover": "Bring the machine back to order after an apply that was killed.",
    "gc": "Remove old generations.",
    "destroy": "Stop and remove everything that apply installed.",
    "why": "Say why a directive stands in a generated unit.",
    "diff": "Show what differs between two generations.",
    "doctor": "Check whether this machine can do what is asked of it.",
    "status": "Show what runs: state, memory, context, requests, and what went wrong last.",
    "logs": "Show what a unit wrote.",
    "events": "Show what applies and the service manager did.",
    "ask": "Ask one question over ChemBus.",
    "bus": "Run the ChemBus proxy; show, follow and publish what passes.",
    "router": "Run the router: ChemBus and the HTTP bridge.",
    "route": "Show how the router chooses who answers a request.",
    "profile": "Show which GPU profile the cards allow, or choose it anew.",
    "gpu": "Follow GPUs that come and go; lock one out, give it up, take it back.",
    "supervisor": "Run the embedded service manager for one root.",
    "await_rpc": "Wait for the RPC servers of other hosts.",
    "watch_confirmation": "Undo an apply that is not confirmed in time.",
    "demo": "Run the whole loop on two small models, then shut down.",
    "completion": "Print a completion script for bash, zsh or fish.",
}
HIDDEN = {"await_rpc", "supervisor", "watch_confirmation"}
RESIDENT = {"bus", "gpu", "router", "supervisor", "watch_confirmation"}


class LazyGroup(click.Group):
    """A group whose commands live one to a module in `cli.commands` and are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in RESIDENT:
            gc.enable()
        module = importlib.import_module(f"kloros_infra.cli.commands.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kloros-infra")
def program() -> None:
    """Run local LLMs declaratively: one models.yaml becomes units, routes and a router."""


def run(command: click.Command, prog_name: str) -> None:
    """Run a command line; show a KlorosError's problems and exit with its code."""
    interrupt_once()
    # A command builds values and ends: looking for garbage among the values of 1,000 models takes a third of its time.
    gc.disable()
    try:
        command.main(prog_name=prog_name)
    except KlorosError as error:
        with suppress(OSError):  # the terminal may be gone; the exit code still tells
            show_problems(error.problems, texts_at(error.problems))
        sys.exit(error.exit_code)
    except OSError as error:
        show_problems([refused_by_system(error)], {})
        sys.exit(1)


def interrupt_once() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal interrupt alike, and only once: what an apply undoes must finish.

    Commands that serve set handlers of their own. A signal that is ignored, as under nohup, stays so.
    """

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, already)
        raise KeyboardInterrupt

    def already(*_: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            click.echo("Stopping already: what was begun is undone first.", err=True)

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, interrupt)


def refused_by_system(error: OSError) -> Diagnostic:
    """Say what the system refused, for a file that no adapter explains better."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return Diagnostic(
        code="KI523",
        summary="Refused by the system",
        detail=f"{what}.",
        hint="Check the path and its permissions; changing a machine's own root needs sudo.",
    )


def main() -> None:
    """Run `kloros-infra`."""
    run(program, "kloros-infra")
