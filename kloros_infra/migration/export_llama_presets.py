"""What runs under a profile → presets for llama-server's router mode (llama.cpp, common/preset.cpp)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kloros_infra.migration.exported import Export, Exported, ExportedInstance, unsaid_purposes
from kloros_infra.migration.settings import Setting

# A value ends at one of these, and nothing escapes them.
_UNWRITABLE = re.compile(r"[;#\r\n]|^[ \t]|[ \t]$")


def export_llama_presets(exported: Exported) -> Export:
    """Write a preset file; settings that it cannot hold are notes."""
    notes: list[str] = []
    sections = ["\n".join(_section(instance, notes)) for instance in exported.instances]
    text = "\n\n".join(("\n".join(_head(exported)), *sections))
    lost = (f"persona {persona.id}: presets have no system prompts" for persona in exported.personas)
    groups = sorted({instance.group for instance in exported.instances if instance.group})
    taking_turns = (f"group {group}: --models-max counts models, whichever they are" for group in groups)
    return Export(f"{text}\n", (*notes, *taking_turns, *lost, *unsaid_purposes(exported)))


def _head(exported: Exported) -> Iterator[str]:
    yield f"; Written by kloros-infra export llama-presets, profile {exported.profile}. Start it with:"
    for name, value in _environment(exported).items():
        yield f";   export {name}={value}"
    # No `version = 1`: before any section it would make a model called `default` (llama.cpp b10068).
    yield f";   {exported.program} --models-preset THIS_FILE --models-max {_most_at_once(exported)}"


def _most_at_once(exported: Exported) -> int:
    """Say how many may be loaded: all where they fit side by side, else as many as are started together."""
    preloaded = sum(instance.preload for instance in exported.instances)
    return len(exported.instances) if exported.fits_together else max(1, preloaded)


def _environment(exported: Exported) -> dict[str, str]:
    """Join the variables of all instances; one process has one environment, and all of a profile's agree."""
    return {name: value for instance in exported.instances for name, value in instance.environment.items()}


def _section(instance: ExportedInstance, notes: list[str]) -> Iterator[str]:
    yield f"[{instance.model_id}]"
    if instance.names:
        yield f"alias = {','.join(instance.names)}"
    if instance.tags:
        yield f"tags = {','.join(instance.tags)}"
    yield f"load-on-startup = {_word(instance.preload)}"
    yield f"stop-timeout = {instance.drain_s}"
    if instance.idle_timeout_s is not None:
        yield f"sleep-idle-seconds = {instance.idle_timeout_s}"
    for name, value in sorted(_joined(instance.settings).items()):
        if _UNWRITABLE.search(value):
            notes.append(f"{instance.model_id}: {name} left out: a preset's values have no ; or #")
        else:
            yield f"{name} = {value}"


def _joined(settings: tuple[Setting, ...]) -> dict[str, str]:
    """Write settings as values; what is given several times is joined by commas, as llama-server splits it."""
    values: dict[str, str] = {}
    for one in settings:
        value = _word(one.value) if isinstance(one.value, bool) else one.value
        before = values.get(one.name)
        values[one.name] = value if before is None else f"{before},{value}"
    return values


def _word(is_on: bool) -> str:
    return "true" if is_on else "false"
