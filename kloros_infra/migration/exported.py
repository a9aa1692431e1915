"""A compiled catalog under one profile → what an export needs of it, whichever program it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.emit_command import server_words
from kloros_infra.ir.catalog import Instance, ModelKind, Persona
from kloros_infra.ir.layout import Layout
from kloros_infra.migration.settings import Setting, settings_of_variables, settings_of_words
from kloros_infra.placement.place import check_together

LLAMA_SERVER = "llama-server"
# What each program gives its llama-servers itself, or what only our router asks for.
_OURS_ALONE = frozenset({"alias", "host", "metrics", "port", "ui"})


@dataclass(frozen=True, slots=True)
class ExportedInstance:
    """A model under the profile, and how its llama-server is started; `environment` has what is no option of it.

    `idle_timeout_s` is None where it stays: other programs take 0 for that, so at once is one second.
    """

    model_id: str
    display_name: str
    kind: ModelKind
    names: tuple[str, ...]
    tags: tuple[str, ...]
    context_tokens: int
    settings: tuple[Setting, ...]
    environment: Mapping[str, str]
    preload: bool
    pin: bool
    idle_timeout_s: int | None
    drain_s: int
    group: str | None


@dataclass(frozen=True, slots=True)
class Exported:
    """All that runs under a profile, and what is asked for beside models."""

    profile: str
    program: str
    instances: tuple[ExportedInstance, ...]
    fits_together: bool
    personas: tuple[Persona, ...]
    purposes: Mapping[str, tuple[str, ...]]
    bridge_url: str


@dataclass(frozen=True, slots=True)
class Export:
    """A file for another program, and what it cannot say."""

    text: str
    notes: tuple[str, ...]


def exported(
    compiled: Compiled, variables: Mapping[str, Mapping[str, str]], *, profile: str, layout: Layout
) -> Exported:
    """Collect what runs under a profile; `variables` has each instance's env file, by the instance's name."""
    catalog = compiled.catalog
    running = [instance for instance in catalog.instances if instance.profile.name == profile]
    placements = {instance.id: compiled.placements[instance.id] for instance in running}
    ids = {instance.model.id for instance in running}
    is_path = catalog.llama_server.startswith("/")
    return Exported(
        profile=profile,
        program=catalog.llama_server if is_path else layout.absolute(layout.program_path(LLAMA_SERVER)),
        instances=tuple(
            _instance(instance, variables[str(instance.id)], server_words(instance, placements[instance.id]))
            for instance in running
        ),
        fits_together=not check_together(placements),
        personas=tuple(persona for persona in catalog.personas if persona.model_id in ids),
        purposes={
            purpose.name: tuple(candidate for candidate in purpose.candidates if candidate in ids)
            for purpose in catalog.purposes
        },
        bridge_url=f"http://{_host(catalog.bridge.host)}:{catalog.bridge.ports[0]}/v1",
    )


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _instance(instance: Instance, variables: Mapping[str, str], words: Sequence[str]) -> ExportedInstance:
    model, serving = instance.model, instance.serving
    found = tuple(settings_of_variables([f"{name}={value}" for name, value in sorted(variables.items())]))
    others = {one for one in found if isinstance(one, str)}
    further, _ = settings_of_words(words)
    # Words outrank variables.
    outranked = {word.name for word in further}
    options = [one for one in found if isinstance(one, Setting) and one.name not in outranked]
    settings = (one for one in (*options, *further) if one.name not in _OURS_ALONE)
    return ExportedInstance(
        model_id=model.id,
        display_name=model.display_name,
        kind=model.kind,
        names=tuple(name for name in dict.fromkeys((model.name, *model.aliases)) if name != model.id),
        tags=model.purpose_tags,
        context_tokens=serving.context_tokens,
        settings=tuple(settings),
        environment={name: value for name, value in sorted(variables.items()) if name in others},
        preload=serving.preload,
        pin=serving.is_pinned,
        idle_timeout_s=None if serving.idle_timeout_s is None else max(1, round(serving.idle_timeout_s)),
        drain_s=round(serving.drain_s),
        group=model.group,
    )


def unsaid_purposes(exported: Exported) -> tuple[str, ...]:
    """Say that purposes are lost."""
    names = ", ".join(exported.purposes)
    return (f"purposes ({names}): clients name a model there",) if names else ()
