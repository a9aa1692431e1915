"""What an import takes over + the models.yaml that it goes into → what is added: free names, free ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from kloros_infra.compiler.instance_ports import FIRST_PORT, instance_ports
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.names import unused
from kloros_infra.migration.names import called
from kloros_infra.migration.taken_over import Row, TakenModel, TakenOver, TakenPersona

LAST_PORT = 9999
"""Above are ports of others: the bridge's 11434, and those that Linux gives outgoing connections."""
CPU_ONLY = "cpu_only"
ALREADY = "in models.yaml already"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a models.yaml has already; `profiles` with the number of their cards.

    `owners` has who is called by each name, `weights` the models of each source.
    """

    owners: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[int] = frozenset()
    profiles: Mapping[str, int] = field(default_factory=lambda: {CPU_ONLY: 0})
    weights: Mapping[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    personas: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model with its port under each profile, and the cards that the profile has."""

    model: TakenModel
    instances: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is added to a models.yaml, and the report."""

    models: tuple[FittedModel, ...]
    personas: tuple[TakenPersona, ...]
    rows: tuple[Row, ...]

    @property
    def is_empty(self) -> bool:
        return not (self.models or self.personas)


def surroundings_of(config: Config) -> Surroundings:
    """Look at a models.yaml."""
    weights: dict[tuple[str, ...], tuple[str, ...]] = {}
    for model in config.models:
        for version in model.versions:
            weights[version.gguf_url] = (*weights.get(version.gguf_url, ()), model.id)
    return Surroundings(
        owners=dict(_owners(config)),
        ports=frozenset(_ports(config)),
        profiles={name: len(profile.gpus) for name, profile in config.profiles.items()},
        weights=weights,
        personas={persona.id: persona.base_model for persona in config.personas},
    )


def _owners(config: Config) -> Iterator[tuple[str, str]]:
    for model in config.models:
        yield from ((called(name), model.id) for name in _names(model))
    for persona in config.personas:
        yield from ((called(name), persona.id) for name in (persona.id, *persona.aliases))


def _names(model: ModelSpec) -> tuple[str, ...]:
    return (model.id, model.unit_name, *model.aliases)


def _ports(config: Config) -> Iterator[int]:
    yield from (*config.bus.listening.values(), *config.bridge.ports)
    if config.observability.metrics_port is not None:
        yield config.observability.metrics_port
    yield from (port for ports in instance_ports(config) for port in ports.values())


def fit(taken: TakenOver, around: Surroundings) -> Fitted:
    """Give everything names and ports that are free; what is there already is left out."""
    fitting = _Fitting(around)
    models = tuple(fitted for model in taken.models if (fitted := fitting.model(model)) is not None)
    personas = tuple(new for persona in taken.personas if (new := fitting.persona(persona)) is not None)
    drafted = tuple(replace(one, model=_with_draft(one.model, fitting.became)) for one in models)
    return Fitted(drafted, personas, tuple(fitting.row(row) for row in taken.rows))


def _first_port(used: frozenset[int]) -> int:
    """Go on where instances end, as far as outgoing connections hold no ports."""
    last = max((port for port in used if FIRST_PORT <= port < LAST_PORT), default=FIRST_PORT - 1)
    return last + 1


def _with_draft(model: TakenModel, became: Mapping[str, str]) -> TakenModel:
    if model.draft is None:
        return model
    return replace(model, draft=replace(model.draft, model_id=became[model.draft.model_id]))


class _Fitting:
    """Takes names and ports, one model or persona after the other; `became` maps ids to those that they got."""

    def __init__(self, around: Surroundings) -> None:
        self.became: dict[str, str] = {}
        self._around = around
        self._owners = dict(around.owners)
        self._notes: dict[str, list[str]] = {}
        self._ports = (port for port in count(_first_port(around.ports)) if port not in around.ports)

    def model(self, model: TakenModel) -> FittedModel | None:
        """Fit a model in; None where the file has it."""
        there = self._same_weights(model)
        if there is not None:
            self.became[model.id] = there
            self._note(model.id, ALREADY)
            return None
        cards = len(model.tensor_split)
        if cards > 1 and cards not in self._around.profiles.values():
            self._note(model.id, f"tensor-split left out: no profile here has {cards} cards")
        id = self._take(model.id)
        aliases = tuple(alias for alias in model.aliases if self._claim(alias, id, model.id))
        return FittedModel(replace(model, id=id, aliases=aliases), self._instances(model))

    def persona(self, persona: TakenPersona) -> TakenPersona | None:
        """Fit a persona in; None where the file has one of this name over the same model."""
        model_id = self.became[persona.model_id]
        if self._around.personas.get(persona.id) == model_id:
            self.became[persona.id] = persona.id
            self._note(persona.id, ALREADY)
            return None
        id = self._take(persona.id)
        aliases = tuple(alias for alias in persona.aliases if self._claim(alias, id, persona.id))
        return replace(persona, id=id, model_id=model_id, aliases=aliases)

    def row(self, row: Row) -> Row:
        """Bring a line of the report up to date."""
        notes = [note for was in row.became for note in self._notes.get(was, ())]
        became = (self.became.get(was, was) for was in row.became)
        return Row(row.name, tuple(dict.fromkeys(became)), tuple(dict.fromkeys((*notes, *row.notes))))

    def _same_weights(self, model: TakenModel) -> str | None:
        there = self._around.weights.get(model.weights.sources, ())
        if model.id in there:
            return model.id
        return there[0] if len(there) == 1 else None

    def _take(self, wanted: str) -> str:
        id = unused(wanted, self._owners)
        if id != wanted:
            self._note(wanted, f"the name {wanted} is taken by {self._owners[wanted]}")
        self._owners[id] = id
        self.became[wanted] = id
        return id

    def _claim(self, alias: str, id: str, was: str) -> bool:
        owner = self._owners.setdefault(called(alias), id)
        if owner != id:
            self._note(was, f"the name {alias} is taken by {owner}")
        return owner == id

    def _instances(self, model: TakenModel) -> tuple[tuple[str, int, int], ...]:
        if not model.runs:
            return ()
        return tuple((name, next(self._ports), cards) for name, cards in self._around.profiles.items())

    def _note(self, was: str, note: str) -> None:
        self._notes.setdefault(was, []).append(note)
