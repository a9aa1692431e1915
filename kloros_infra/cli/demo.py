"""The demo: the laptop example below a scratch folder, asked in three languages, then shut down."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from kloros_infra import client as llm
from kloros_infra.adapters.templates import examples_folder
from kloros_infra.cli.asking import Answer, ask_ollama, ask_openai, bus_answer
from kloros_infra.cli.changing import Manner, carry_out
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import ManagerChoice, Target, compile_project, desired_for, stop_supervisor
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.ir.catalog import Catalog
from kloros_infra.planner.desired import nothing_desired

STEPS = 6
QUESTION = "What is the capital of France? Answer in one sentence."
BEGINNING = "The three largest cities of France are"
MAX_TOKENS = 48


def run_demo(*, keep: bool) -> None:
    """Run the whole loop; with `keep` leave it running and say how to talk to it."""
    file = examples_folder() / "laptop" / "models.yaml"
    with scratch_target(keep=keep) as where:
        announce(1, f"Compile {file}")
        compiled = compile_project(read_project(file), where.layout)
        click.echo(f"{len(compiled.catalog.instances)} instances, {len(compiled.tree)} generated files.")
        announce(2, f"Plan and apply below {where.root}, run by the embedded supervisor")
        carry_out(desired_for(compiled, where, None), where, Manner(yes=True))
        ask_in_three_languages(compiled.catalog)
        if keep:
            say_how_to_go_on(compiled, where, file)
            return
        announce(STEPS, "Shut down")


def announce(number: int, text: str) -> None:
    """Head a part of the demo."""
    click.secho(f"\n=== {number}/{STEPS} {text}", bold=True)


@contextmanager
def scratch_target(*, keep: bool) -> Iterator[Target]:
    """Give a target below a new folder; unless kept, stop and remove everything there at the end, come what may."""
    where = Target(Path(tempfile.mkdtemp(prefix="kloros-infra-demo-")).resolve(), ManagerChoice.SUPERVISOR)
    has_failed = True
    try:
        yield where
        has_failed = False
    finally:
        if has_failed or not keep:
            clean_up(where)


def clean_up(where: Target) -> None:
    """Destroy a scratch target and its folder."""
    try:
        carry_out(nothing_desired(where.layout, with_weights=True), where, Manner(yes=True, shows_plan=False))
    finally:
        stop_supervisor(where)
        shutil.rmtree(where.root)


def ask_in_three_languages(catalog: Catalog) -> None:
    """Ask one question over ChemBus, one in OpenAI's shape and one in Ollama's."""
    bridge = f"http://{catalog.bridge.host}:{catalog.bridge.ports[0]}"
    announce(3, "Ask over ChemBus: llm.request with purpose 'fast'")
    answer = bus_answer(ask_bus(llm.Addresses(None, catalog.bus.xsub, catalog.bus.xpub)))
    click.echo(answer.text)
    show_answer(answer)

    announce(4, f"Ask in OpenAI's shape, streamed: POST {bridge}/v1/chat/completions, persona 'pirate'")
    messages = [{"role": "user", "content": QUESTION}]
    show_answer(ask_openai(bridge, {"model": "pirate", "messages": messages, "max_tokens": MAX_TOKENS}, echo_part))

    announce(5, f"Ask in Ollama's shape: POST {bridge}/api/generate, model 'gemma3' (a base model: raw text)")
    click.echo(BEGINNING, nl=False)
    body = {"model": "gemma3", "prompt": BEGINNING, "raw": True, "options": {"num_predict": MAX_TOKENS}}
    show_answer(ask_ollama(bridge, body, echo_part))


def ask_bus(addresses: llm.Addresses) -> llm.Answer:
    """Ask for the purpose `fast` over ChemBus."""
    try:
        with llm.Client(addresses) as client:
            return client.ask(QUESTION, purpose="fast", max_tokens=MAX_TOKENS)
    except llm.LlmError as error:
        raise click.ClickException(str(error)) from error


def echo_part(text: str) -> None:
    """Show a piece of a stream as it comes."""
    click.echo(text, nl=False)


def show_answer(answer: Answer) -> None:
    """Close an answer with who gave it and how fast."""
    click.secho(f"\n  [{answer}]", fg="cyan")


def say_how_to_go_on(compiled: Compiled, where: Target, file: Path) -> None:
    """Tell how to talk to what is left running, and how to end it."""
    bridge = compiled.catalog.bridge
    url = f"http://{bridge.host}:{bridge.ports[0]}"
    announce(STEPS, "It is still running")
    for line in (
        f"kloros-infra ask --file {file} 'Why is the sky blue?'",
        f'curl {url}/api/generate -d \'{{"model": "smollm2", "prompt": "Hello"}}\'',
        f"kloros-infra status --root {where.root}",
        f"kloros-infra destroy --root {where.root} --with-weights --yes    # ends it",
    ):
        click.echo(f"  {line}")
