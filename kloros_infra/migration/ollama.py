"""An Ollama store's models → models and personas of models.yaml.

Names of the same weights become one model with several aliases. A name with a system prompt or sampling of its own
becomes a persona over it, which is asked by that name as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from kloros_infra.compiler.chat_template import chat_template_family
from kloros_infra.compiler.printable import printable
from kloros_infra.ir.catalog import ArgumentValue, ModelKind
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.names import as_name, unused
from kloros_infra.migration.names import NAMELESS, aliases_of, on_one_line
from kloros_infra.migration.ollama_manifest import DEFAULT_HOST, DEFAULT_NAMESPACE, ConfigSpec, OllamaName
from kloros_infra.migration.ollama_parameters import Parameters, sort_parameters
from kloros_infra.migration.taken_over import Row, TakenModel, TakenOver, TakenPersona, TakenWeights
from kloros_infra.migration.traits import cost_tier, kind_of, purpose_tags, usual_context

_MOST_PROMPT_CHARACTERS = 65_536


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of the store; `path` is absolute."""

    path: str
    sha256: str
    size_bytes: int

    @property
    def source(self) -> str:
        return f"file://{self.path}"


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A manifest, and what its layers say; without a header its weights could not be read."""

    name: OllamaName
    config: ConfigSpec
    weights: tuple[Blob, ...] = ()
    projectors: tuple[Blob, ...] = ()
    header: GgufHeader | None = None
    template: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    message_count: int = 0
    others: tuple[str, ...] = ()
    """Layers that nothing here reads, by kind."""
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class _Named:
    """A name with its weights in hand and its parameters sorted."""

    found: OllamaModel
    header: GgufHeader
    parameters: Parameters

    @property
    def name(self) -> OllamaName:
        return self.found.name

    @property
    def character(self) -> tuple[str, tuple[tuple[str, float | int], ...], tuple[str, ...]]:
        """Give what makes a persona: names that agree in it share one."""
        return self.found.system, tuple(self.parameters.sampling.items()), self.parameters.stop

    @property
    def is_plain(self) -> bool:
        return not any(self.character)

    @property
    def weights(self) -> tuple[str, ...]:
        return tuple(blob.sha256 for blob in (*self.found.weights, *self.found.projectors))


def take_over_ollama(store: Sequence[OllamaModel]) -> TakenOver:
    """Translate a store, or a part of it."""
    usable: list[_Named] = []
    rows: list[Row] = []
    for found in sorted(store, key=lambda one: one.name):
        obstacle = _obstacle(found)
        if obstacle or found.header is None:
            rows.append(Row(str(found.name), notes=(obstacle or "its weights cannot be read",)))
        else:
            usable.append(_Named(found, found.header, sort_parameters(found.parameters)))
    models: list[TakenModel] = []
    personas: list[TakenPersona] = []
    used: set[str] = set()
    for _, group in groupby(sorted(usable, key=lambda one: (one.weights, one.name)), key=lambda one: one.weights):
        names = sorted(group, key=_plainness)
        model = _model(names, used)
        own = tuple(_personas(names, model, used))
        models.append(model)
        personas += own
        rows += _rows(names, model, own)
    ordered = sorted(models, key=lambda one: one.id)
    return TakenOver(tuple(ordered), tuple(personas), tuple(sorted(rows, key=lambda row: row.name)))


def _obstacle(found: OllamaModel) -> str:
    """Say why a name cannot be taken over; empty where it can."""
    config, count = found.config, len(found.weights)
    obstacles = (
        (config.remote_host, f"runs on {config.remote_host}, not here; the `upstream` of a remote host is its place"),
        (
            config.model_format not in ("", "gguf"),
            f"its weights are {config.model_format}; llama-server reads GGUF alone",
        ),
        ("adapter" in found.others, "has a LoRA adapter, without which it would be another model"),
        (count > 1, f"its weights are in {count} layers, of which Ollama itself loads one"),
        (not found.is_whole and found.header is None, "not whole in the store, see above"),
        (not count, "has no weights of its own in this store"),
        (found.header is not None and found.header.is_projector, "its weights are a projector, not a model"),
    )
    return printable(next((reason for applies, reason in obstacles if applies), ""))


def _plainness(named: _Named) -> tuple[bool, bool, bool, bool, int, str]:
    """Order names of the same weights: what the model is called comes first."""
    name = named.name
    return (
        not named.is_plain,
        name.host.lower() != DEFAULT_HOST,
        name.namespace.lower() != DEFAULT_NAMESPACE,
        name.tag == "latest",
        len(str(name)),
        str(name),
    )


def _model(names: Sequence[_Named], used: set[str]) -> TakenModel:
    first = names[0]
    found, header = first.found, first.header
    projector = found.projectors[0] if found.projectors else None
    kind = kind_of(header, has_projector=projector is not None)
    # Where every name has a persona of its own, the personas are called by them, and the model by what it is.
    id = unused(_id_of(first.name) if first.is_plain else _id_of_weights(found), used)
    used.add(id)
    plain = [str(named.name) for named in names if named.is_plain]
    aliases, _ = aliases_of(plain, [id])
    weights = found.weights[0]
    asked = [named.parameters.context_tokens for named in names if named.parameters.context_tokens]
    return TakenModel(
        id=id,
        display_name=_display_name(found),
        weights=TakenWeights(
            (weights.source,), weights.sha256, projector.source if projector else None, weights.size_bytes
        ),
        context_tokens=min(max(asked), 10_485_760) if asked else usual_context(header),
        purpose_tags=purpose_tags(first.name.model, kind),
        cost_tier=cost_tier(weights.size_bytes),
        kind=kind,
        aliases=aliases,
        chat_template=_chat_template(found, header, kind),
        arguments=_arguments(names),
        preload=False,
        notes=on_one_line(f"Taken over from Ollama, where it was {first.name}"),
    )


def _arguments(names: Iterable[_Named]) -> dict[str, ArgumentValue]:
    """Join the options of all names: one server has them all."""
    joined: dict[str, ArgumentValue] = {}
    for named in names:
        joined = {**named.parameters.arguments, **joined}
    return joined


def _id_of(name: OllamaName) -> str:
    """Make an id of a name: its owner counts in Ollama's own library, not on a hub."""
    owner = name.namespace if name.host.lower() == DEFAULT_HOST and name.namespace != DEFAULT_NAMESPACE else ""
    model = name.model.lower().removesuffix("-gguf")
    tag = "" if name.tag == "latest" else name.tag
    return as_name("-".join(part for part in (owner, model, tag) if part)) or NAMELESS


def _id_of_weights(found: OllamaModel) -> str:
    details = f"{found.config.model_type}-{found.config.file_type}".strip("-") or "weights"
    return as_name(f"{found.name.model.lower().removesuffix('-gguf')}-{details}") or NAMELESS


def _display_name(found: OllamaModel) -> str:
    config = found.config
    return on_one_line(f"{found.name.model} {config.model_type} {config.file_type}")


def _chat_template(found: OllamaModel, header: GgufHeader, kind: ModelKind) -> str | None:
    """Choose a template of llama.cpp's own where the weights carry none: Ollama's are not jinja."""
    if not kind.can_chat or header.chat_template_sha256 is not None or not found.template:
        return None
    return chat_template_family(found.template)


def _personas(names: Sequence[_Named], model: TakenModel, used: set[str]) -> Iterator[TakenPersona]:
    shaped = sorted((named for named in names if not named.is_plain and _prompt_fits(named)), key=_by_character)
    for (system, sampling, stop), group in groupby(shaped, key=lambda one: one.character):
        own = sorted(group, key=_plainness)
        id = unused(_id_of(own[0].name), used)
        used.add(id)
        aliases, _ = aliases_of((str(named.name) for named in own), [id])
        yield TakenPersona(id, model.id, aliases, system, dict(sampling), stop)


def _by_character(named: _Named) -> tuple[Any, str]:
    return named.character, str(named.name)


def _prompt_fits(named: _Named) -> bool:
    return len(named.found.system) <= _MOST_PROMPT_CHARACTERS and "\0" not in named.found.system


def _rows(names: Sequence[_Named], model: TakenModel, personas: Sequence[TakenPersona]) -> Iterator[Row]:
    for named in names:
        own = next((one for one in personas if _is_of(named, one)), None)
        became = (model.id,) if own is None else (model.id, own.id)
        yield Row(str(named.name), became, tuple(_notes(named, model)))


def _is_of(named: _Named, persona: TakenPersona) -> bool:
    return named.character == (persona.system_prompt, tuple(persona.sampling.items()), persona.stop)


def _notes(named: _Named, model: TakenModel) -> Iterator[str]:
    found = named.found
    yield from named.parameters.notes
    if not _prompt_fits(named):
        yield f"SYSTEM left out: it has more than {_MOST_PROMPT_CHARACTERS} characters, or NUL characters"
    yield from _context_notes(named, model)
    yield from _template_notes(named, model)
    if found.message_count:
        yield f"MESSAGE left out: {found.message_count} messages before all others; a system prompt can hold them"
    if "draft" in found.others:
        yield "its draft model left out: declare it as a model, and name it under `draft`"
    if len(found.projectors) > 1:
        yield f"{len(found.projectors) - 1} further projector left out"
    if named.header.has_vision and not found.projectors:
        yield "sees pictures with tensors in Ollama's own form; llama-server needs a separate projector for them"
    _, unusual = aliases_of([str(found.name)], [])
    yield from (f"the name {printable(name)} cannot be an alias" for name in unusual)


def _context_notes(named: _Named, model: TakenModel) -> Iterator[str]:
    asked = named.parameters.context_tokens
    if asked is None and model.kind.can_chat:
        yield f"no num_ctx: context_tokens is {model.context_tokens}"
    elif asked is not None and asked != model.context_tokens:
        yield f"num_ctx {asked}: the model's other names ask for {model.context_tokens}"


def _template_notes(named: _Named, model: TakenModel) -> Iterator[str]:
    template, header = named.found.template, named.header
    if not template or not model.kind.can_chat:
        return
    family = chat_template_family(template)
    if header.chat_template_sha256 is None:
        if model.chat_template is None:
            yield "TEMPLATE left out: of no family of llama.cpp's, and the weights carry none; set `chat_template`"
        else:
            yield f"TEMPLATE taken for llama.cpp's {model.chat_template}; the weights carry none"
    elif family is not None and header.chat_template_name not in (None, family):
        yield f"TEMPLATE left out: it is {family}; the weights' own is {header.chat_template_name}, and counts here"
