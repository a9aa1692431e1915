"""Checks that every name in models.yaml is declared, and what is declared is used (KI201 to KI207, KI224, KI254)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kloros_infra.compiler.check_hosts import remote_models
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec

COMPARISONS = 5_000
"""How many names are compared in search of likely ones: among a thousand models each search takes milliseconds."""


class _Reference(NamedTuple):
    """A name that must be among the known ones of its kind; a tuple, because one is made for every name of the file.

    `missing` says what there is not, followed by the name; `elsewhere` says what else bears a name.
    """

    code: str
    kind: str
    name: str
    known: Collection[str]
    address: Address
    is_key: bool = False
    missing: str = ""
    elsewhere: Callable[[str], str | None] = lambda _: None


def check_references(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find names that nothing in the file declares."""
    left = COMPARISONS
    for reference in _references(parsed.config):
        if reference.name in reference.known:
            continue
        left -= len(reference.known)
        problem = Diagnostic(
            code=reference.code,
            summary=f"Unknown {reference.kind}",
            detail=f"{reference.missing or f'No {reference.kind} is called'} {reference.name!r}.",
            hint=_hint(reference) if left >= 0 else f"Declare it, or name a {reference.kind} that is declared.",
        )
        yield parsed.locate(problem, reference.address, at_key=reference.is_key)


def _hint(reference: _Reference) -> str:
    return reference.elsewhere(reference.name) or suggest(reference.name, reference.known)


def _references(config: Config) -> Iterator[_Reference]:
    models = _Models.of(config)
    yield from _references_of_machines(config, models)
    for index, model in enumerate(config.models):
        yield from _references_of_model(model, index, config, models)
    for index, persona in enumerate(config.personas):
        yield models.reference(persona.base_model, ("personas", index, "base_model"))
    for purpose_name, purpose in config.purposes.items():
        for index, name in enumerate(purpose.candidates):
            yield models.reference(name, ("purposes", purpose_name, "candidates", index))
        if purpose.otherwise is not None:
            address = ("purposes", purpose_name, "otherwise")
            yield _Reference("KI207", "purpose", purpose.otherwise, config.purposes, address)
    yield from _references_of_clients(config, models)


@dataclass(frozen=True, slots=True)
class _Models:
    """Ids of models in the file's order, and who else bears a name: other names of models, and personas."""

    ids: Mapping[str, None]
    named: Mapping[str, str]
    personas: Mapping[str, str]

    @classmethod
    def of(cls, config: Config) -> _Models:
        models, personas = config.models, config.personas
        return cls(
            ids=dict.fromkeys(model.id for model in models),
            named={name: model.id for model in models for name in (model.unit_name, *model.aliases)},
            personas={name: one.base_model for one in personas for name in (one.id, *one.aliases)},
        )

    @property
    def callable_names(self) -> Mapping[str, None]:
        """Give every name by which requests may ask for a model."""
        return dict.fromkeys((*self.ids, *self.named, *self.personas))

    def reference(self, name: str, address: Address, *, is_key: bool = False) -> _Reference:
        return _Reference("KI206", "model", name, self.ids, address, is_key, "No model has the id", self.other_bearer)

    def other_bearer(self, name: str) -> str | None:
        """Say what bears a name that is no model's id."""
        if name in self.named:
            return f"{name!r} is another name of {self.named[name]!r}: write the id."
        if name in self.personas:
            return f"{name!r} is a persona; write a model, such as its {self.personas[name]!r}."
        return None


def _references_of_machines(config: Config, models: _Models) -> Iterator[_Reference]:
    for gpu_name, gpu in config.gpus.items():
        yield _Reference("KI202", "host", gpu.host, config.hosts, ("gpus", gpu_name, "host"))
    for profile_name, profile in config.profiles.items():
        for index, name in enumerate(profile.gpus):
            yield _Reference("KI201", "GPU", name, config.gpus, ("profiles", profile_name, "gpus", index))
    for host_name, host in config.hosts.items():
        for name in host.upstream.models if host.upstream else ():
            yield models.reference(name, ("hosts", host_name, "upstream", "models", name), is_key=True)


def _references_of_model(model: ModelSpec, index: int, config: Config, models: _Models) -> Iterator[_Reference]:
    if model.current_version is not None:
        versions = [version.version_id for version in model.versions]
        address: Address = ("models", index, "current_version")
        missing = f"{model.id} has no version"
        yield _Reference("KI205", "version", model.current_version, versions, address, missing=missing)
    for profile in model.profiles:
        address = ("models", index, "profiles", profile)
        yield _Reference("KI204", "profile", profile, config.profiles, address, is_key=True)
    if model.draft is not None:
        yield models.reference(model.draft.model, ("models", index, "draft", "model"))
    yield from _data_class(model.data_class, ("models", index, "data_class"), config)


def _references_of_clients(config: Config, models: _Models) -> Iterator[_Reference]:
    # Requests name models by whatever name they have, and purposes by the tags of models too.
    if not config.policies.clients:
        return
    callable_names = models.callable_names
    tags = dict.fromkeys(tag for model in config.models for tag in model.purpose_tags)
    purposes = {**dict.fromkeys(config.purposes), **tags}
    for client_name, client in config.policies.clients.items():
        address: Address = ("policies", "clients", client_name)
        for index, name in enumerate(client.models or ()):
            yield _Reference("KI206", "model", name, callable_names, (*address, "models", index))
        for index, name in enumerate(client.purposes or ()):
            yield _Reference("KI207", "purpose", name, purposes, (*address, "purposes", index))
        yield from _data_class(client.data_class, (*address, "data_class"), config)


def _data_class(name: str | None, address: Address, config: Config) -> Iterator[_Reference]:
    if name is not None:
        yield _Reference("KI254", "data class", name, config.policies.data_classes, address)


def check_use(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find GPUs in no profile, models that nothing runs, and data classes that nothing bears."""
    config = parsed.config
    used = {name for profile in config.profiles.values() for name in profile.gpus}
    for name, gpu in config.gpus.items():
        # Of one that others have it is worth knowing that it is none that nobody has declared.
        if name not in used and gpu.shared_with is None:
            problem = _unused(f"The GPU {name} is in no profile.", "Name it in a profile")
            yield parsed.locate(problem, ("gpus", name), at_key=True)
    needed = _needed_elsewhere(config)
    for index, model in enumerate(config.models):
        if model.versions and model.id not in needed and not any(model.profiles.values()):
            problem = _unused(f"The model {model.id} runs under no profile.", "Give it a port under a profile")
            yield parsed.locate(problem, ("models", index, "profiles"))
    if config.policies.data_classes and not _uses_data_classes(config):
        problem = _unused("No model and no client has a data class.", "Say `data_class` where it matters")
        yield parsed.locate(problem, ("policies", "data_classes"))


def _needed_elsewhere(config: Config) -> frozenset[str]:
    """Name the models that a remote host serves, and those that propose tokens for others."""
    return remote_models(config) | {model.draft.model for model in config.models if model.draft}


def _uses_data_classes(config: Config) -> bool:
    clients = config.policies.clients.values()
    return any(model.data_class for model in config.models) or any(client.data_class for client in clients)


def _unused(detail: str, remedy: str) -> Diagnostic:
    return Diagnostic(
        code="KI224",
        summary="Declared and never used",
        detail=detail,
        hint=f"{remedy}, or take it out of the file.",
        severity=Severity.WARNING,
    )
