"""What runs under a profile → a configuration of llama-swap."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from kloros_infra.editing.edits import Value
from kloros_infra.editing.render import block_text
from kloros_infra.ir.catalog import Persona
from kloros_infra.ir.names import unused
from kloros_infra.migration.exported import Export, Exported, ExportedInstance, unsaid_purposes
from kloros_infra.migration.settings import Setting

TOGETHER = "side-by-side"
PINNED = "pinned"
IN_TURN = "in-turn"
# Macros would be put in, and nothing escapes them; a line break would end the option's line.
_UNWRITABLE = re.compile(r"\$\{|[\r\n]")


def export_llama_swap(exported: Exported) -> Export:
    """Write a configuration; what it cannot hold are notes."""
    notes: list[str] = []
    models: dict[str, Value] = {instance.model_id: _model(instance, exported, notes) for instance in exported.instances}
    preloaded: Value = [instance.model_id for instance in exported.instances if instance.preload]
    sections: dict[str, Value] = {"models": models, "groups": dict(_groups(exported))}
    if preloaded:
        sections["hooks"] = {"on_startup": {"preload": preloaded}}
    head = f"# Written by kloros-infra export llama-swap, profile {exported.profile}.\n"
    text = "\n".join((head, *(block_text({key: value}) for key, value in sections.items())))
    lost = (
        f"persona {persona.id}: its system prompt; its values are set for its name"
        for persona in exported.personas
        if persona.system_prompt
    )
    return Export(text, (*notes, *lost, *unsaid_purposes(exported)))


def _model(instance: ExportedInstance, exported: Exported, notes: list[str]) -> Value:
    model: dict[str, Value] = {"name": instance.display_name, "cmd": _command(instance, exported.program, notes)}
    if instance.environment:
        model["env"] = [f"{name}={value}" for name, value in instance.environment.items()]
    if instance.names:
        model["aliases"] = list(instance.names)
    model["ttl"] = instance.idle_timeout_s or 0
    model["unloadTimeout"] = instance.drain_s
    by_id = {
        name: _parameters(persona)
        for persona in exported.personas
        if persona.model_id == instance.model_id
        for name in (persona.id, *persona.aliases)
    }
    if by_id:
        model["filters"] = {"setParamsByID": by_id}
    return model


def _command(instance: ExportedInstance, program: str, notes: list[str]) -> str:
    lines = [shlex.quote(program), "--host 127.0.0.1 --port ${PORT}"]
    for setting in sorted(instance.settings, key=lambda one: one.name):
        words = _words(setting)
        if _UNWRITABLE.search(words):
            notes.append(f"{instance.model_id}: {setting.name} left out: llama-swap would put a macro in")
        else:
            lines.append(words)
    return "\n".join(lines) + "\n"


def _words(setting: Setting) -> str:
    if isinstance(setting.value, bool):
        return f"--{setting.name}" if setting.value else f"--no-{setting.name}"
    return f"--{setting.name} {shlex.quote(setting.value)}"


def _parameters(persona: Persona) -> Value:
    """Write a persona's values as parameters of a request."""
    parameters: dict[str, Value] = dict(persona.sampling)
    if persona.stop:
        parameters["stop"] = list(persona.stop)
    if persona.response_format is not None:
        parameters["response_format"] = json.loads(persona.response_format)
    if persona.tools is not None:
        parameters["tools"] = json.loads(persona.tools)
    return parameters


def _groups(exported: Exported) -> Iterator[tuple[str, Value]]:
    """Say what runs side by side: without groups llama-swap runs one model at a time.

    Where not all fit together, those that are started together stay together, and any other one has all cards.
    """
    names = sorted({instance.group for instance in exported.instances if instance.group})
    exclusive = not exported.fits_together
    for name in names:
        members: Value = [one.model_id for one in exported.instances if one.group == name]
        yield name, {"swap": True, "exclusive": exclusive, "members": members}
    alone = [one for one in exported.instances if not one.group]
    pinned = [one for one in alone if one.pin]
    together = [one for one in alone if not one.pin and (one.preload or exported.fits_together)]
    rest = [one for one in alone if one not in pinned and one not in together]
    for name, some, settings in (
        (PINNED, pinned, {"swap": False, "exclusive": False, "persistent": True}),
        (TOGETHER, together, {"swap": False, "exclusive": exclusive}),
        (IN_TURN, rest, {"swap": True, "exclusive": exclusive}),
    ):
        if some:
            yield unused(name, names), {**settings, "members": [one.model_id for one in some]}
