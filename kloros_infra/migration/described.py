"""Models as another program's configuration describes them, with what this machine knows of their files → models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kloros_infra.editing.hub_reference import HubFile, choose_projector
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.names import as_name, unused
from kloros_infra.migration.names import NAMELESS, aliases_of, is_name, on_one_line
from kloros_infra.migration.served import Repository, Served
from kloros_infra.migration.taken_over import (
    Row,
    SamplingValue,
    TakenDraft,
    TakenModel,
    TakenOver,
    TakenPersona,
    TakenWeights,
)
from kloros_infra.migration.traits import LEAST_CONTEXT_TOKENS, cost_tier, kind_of, purpose_tags, usual_context

# What `-hf owner/repository` takes where no quantization is named (llama-server --help).
_USUAL_QUANTIZATION = "Q4_K_M"
_MOST_CONTEXT_TOKENS = 10_485_760
_MOST_SLOTS = 256


@dataclass(frozen=True, slots=True)
class Variant:
    """Values that go with a name of a model, instead of those of a request."""

    name: str
    sampling: Mapping[str, SamplingValue]
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A model as a configuration describes it; the first variant may have the model's own name."""

    name: str
    served: Served
    display_name: str = ""
    aliases: tuple[str, ...] = ()
    group: str | None = None
    pin: bool | None = None
    variants: tuple[Variant, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of weights that is on this machine; without a header it could not be read."""

    size_bytes: int
    header: GgufHeader | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside a configuration: files by their source, and the files of repositories of the hub."""

    files: Mapping[str, FileFacts] = field(default_factory=dict)
    repositories: Mapping[str, tuple[HubFile, ...]] = field(default_factory=dict)


def wanted_files(described: Iterable[Described]) -> tuple[str, ...]:
    """List the sources that facts are wanted of."""
    return tuple(dict.fromkeys(one.served.weights for one in described if isinstance(one.served.weights, str)))


def wanted_repositories(described: Iterable[Described]) -> tuple[str, ...]:
    """List the repositories whose files must be known."""
    weights = (one.served.weights for one in described)
    return tuple(dict.fromkeys(one.name for one in weights if isinstance(one, Repository) and not one.file))


def take_over_described(described: Sequence[Described], facts: Facts, *, origin: str) -> TakenOver:
    """Translate a configuration's models."""
    taking = _Taking(facts, origin)
    for one in described:
        taking.take(one)
    return TakenOver(
        (*taking.models, *taking.drafts), tuple(taking.personas), tuple(taking.rows),
        tuple(problem for one in described for problem in one.served.problems),
    )  # fmt: skip


def file_in_repository(files: Sequence[HubFile], quantization: str) -> str | None:
    """Choose the file that llama-server would: that of the quantization, else the first; None where there is none."""
    firsts = sorted(file.path for file in files if file.is_weights)
    for wanted in (quantization,) if quantization else (_USUAL_QUANTIZATION,):
        pattern = re.compile(rf"(^|[^A-Za-z0-9]){re.escape(wanted)}([^A-Za-z0-9]|$)", re.IGNORECASE)
        found = next((file for file in firsts if pattern.search(file)), None)
        if found is not None:
            return found
    return None if quantization else next(iter(firsts), None)


class _Taking:
    """Collects what is taken over; ids are unique among it."""

    def __init__(self, facts: Facts, origin: str) -> None:
        self.models: list[TakenModel] = []
        self.drafts: list[TakenModel] = []
        self.personas: list[TakenPersona] = []
        self.rows: list[Row] = []
        self._facts = facts
        self._origin = origin
        self._used: set[str] = set()
        self._draft_ids: dict[str, str] = {}

    def take(self, one: Described) -> None:
        """Take a model over, or say why not."""
        served = one.served
        source, why_not = self._source(served)
        if source is None:
            self.rows.append(Row(one.name, notes=(why_not,)))
            return
        id = self._id(one.name)
        model = self._model(one, id, source, self._projector(served))
        self.models.append(model)
        own = tuple(self._personas(one, model))
        self.personas += own
        notes = (*served.notes, *one.notes, *self._notes(one, model, source))
        self.rows.append(Row(one.name, (id, *(persona.id for persona in own)), tuple(notes)))

    def _id(self, name: str) -> str:
        id = unused(as_name(name) or NAMELESS, self._used)
        self._used.add(id)
        return id

    def _source(self, served: Served) -> tuple[str | None, str]:
        weights = served.weights
        if served.obstacle or weights is None:
            return None, served.obstacle
        if isinstance(weights, str):
            return weights, ""
        if weights.file:
            return f"hf://{weights.name}/{weights.file}", ""
        files = self._facts.repositories.get(weights.name)
        if files is None:
            return None, f"which file of {weights.name} is meant cannot be asked now; name it with --hf-file"
        file = file_in_repository(files, weights.quantization)
        if file is None:
            return None, f"{weights.name} has no file of {weights.quantization or 'weights'}"
        return f"hf://{weights.name}/{file}", ""

    def _projector(self, served: Served) -> str | None:
        """Name the projector that is given, or the one that llama-server would find in the same repository."""
        weights = served.weights
        if served.projector or not served.takes_projector or not isinstance(weights, Repository):
            return served.projector
        found = choose_projector(self._facts.repositories.get(weights.name, ()))
        return f"hf://{weights.name}/{found.path}" if found else None

    def _model(self, one: Described, id: str, source: str, projector: str | None) -> TakenModel:
        served, found = one.served, self._facts.files.get(source)
        header = found.header if found else None
        seeing = ModelKind.VISION if projector else ModelKind.CHAT
        kind = served.kind or (kind_of(header, has_projector=projector is not None) if header else seeing)
        names = (one.name, *one.aliases, *served.aliases)
        projector = projector if kind is ModelKind.VISION else None
        tags = tuple(tag for tag in served.tags if is_name(tag))
        own_name = {variant.name for variant in one.variants}
        aliases, _ = aliases_of((name for name in names if name not in own_name), [id])
        return TakenModel(
            id=id,
            display_name=on_one_line(one.display_name or one.name),
            weights=TakenWeights((source,), None, projector, found.size_bytes if found else None),
            context_tokens=_context(served, header),
            purpose_tags=tags or purpose_tags(f"{one.name} {source}", kind),
            cost_tier=cost_tier(found.size_bytes if found else None),
            kind=kind,
            aliases=aliases,
            chat_template=served.chat_template if kind.can_chat else None,
            parallel=min(served.parallel, _MOST_SLOTS) if served.parallel else None,
            cache_type_k=served.cache_type_k,
            cache_type_v=served.cache_type_v,
            placement=served.placement,
            arguments=served.arguments,
            preload=bool(served.preload),
            pin=one.pin,
            idle_timeout_s=served.idle_timeout_s,
            drain_s=served.drain_s,
            group=one.group,
            draft=self._draft(served),
            tensor_split=served.tensor_split,
            notes=f"Taken over from {self._origin}",
        )

    def _draft(self, served: Served) -> TakenDraft | None:
        """Make a model of the file that proposes tokens, once for all that use it; it runs nowhere by itself."""
        if served.draft is None:
            return None
        if served.draft not in self._draft_ids:
            self._draft_ids[served.draft] = self._draft_model(served.draft)
        return TakenDraft(
            self._draft_ids[served.draft],
            served.draft_max_tokens,
            served.draft_min_tokens,
            served.draft_min_probability,
        )

    def _draft_model(self, source: str) -> str:
        same = next((model.id for model in self.models if model.weights.sources == (source,)), None)
        if same is not None:
            return same
        name = _name_of_file(source)
        id = self._id(name)
        found = self._facts.files.get(source)
        self.drafts.append(
            TakenModel(
                id=id,
                display_name=on_one_line(name),
                weights=TakenWeights((source,), size_bytes=found.size_bytes if found else None),
                context_tokens=usual_context(found.header if found else None),
                purpose_tags=purpose_tags(name, ModelKind.CHAT),
                cost_tier=cost_tier(found.size_bytes if found else 0),
                notes=f"Proposes tokens to others; taken over from {self._origin}",
                runs=False,
            )
        )
        return id

    def _personas(self, one: Described, model: TakenModel) -> Iterator[TakenPersona]:
        for variant in one.variants:
            id = self._id(variant.name if variant.name != one.name else f"{variant.name}-as-set")
            aliases, _ = aliases_of([variant.name], [id])
            taken = set(model.aliases) | {model.id}
            yield TakenPersona(
                id, model.id, tuple(a for a in aliases if a not in taken), "", variant.sampling, variant.stop
            )

    def _notes(self, one: Described, model: TakenModel, source: str) -> Iterator[str]:
        served = one.served
        if served.context_per_request is None:
            yield f"no ctx-size: context_tokens is {model.context_tokens}"
        elif served.is_unified and (served.parallel or 1) > 1:
            yield f"{served.parallel} slots shared one context; here each has its own, which takes more memory"
        if source.startswith("file://") and source not in self._facts.files:
            yield "its file is not on this machine"
        _, unusual = aliases_of((one.name, *one.aliases, *served.aliases), [])
        yield from (f"the name {name!r} cannot be an alias" for name in unusual)


def _name_of_file(source: str) -> str:
    """Name a file; where kloros-infra keeps weights itself, as `<model>/<version>/model.gguf`, by its model."""
    *_, model, _, file = ("", "", *source.split("/"))
    stem = file.removesuffix(".gguf")
    return model if stem == "model" and model else stem


def _context(served: Served, header: GgufHeader | None) -> int:
    asked = served.context_per_request
    return usual_context(header) if asked is None else min(max(asked, LEAST_CONTEXT_TOKENS), _MOST_CONTEXT_TOKENS)
