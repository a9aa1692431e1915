"""Checks that every name in models.yaml is declared, and that what is declared is used (KI201 to KI207, KI224)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config, ModelSpec


@dataclass(frozen=True, slots=True)
class _Reference:
    """A name that must be among the known ones of its kind."""

    code: str
    kind: str
    name: str
    known: Collection[str]
    address: Address
    is_key: bool = False


def check_references(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find names that nothing in the file declares."""
    for reference in _references(parsed.config):
        if reference.name not in reference.known:
            problem = Diagnostic(
                code=reference.code,
                summary=f"Unknown {reference.kind}",
                detail=f"No {reference.kind} is called {reference.name!r}.",
                hint=suggest(reference.name, reference.known),
            )
            yield parsed.locate(problem, reference.address, at_key=reference.is_key)


def _references(config: Config) -> Iterator[_Reference]:
    for gpu_name, gpu in config.gpus.items():
        yield _Reference("KI202", "host", gpu.host, config.hosts, ("gpus", gpu_name, "host"))
    for profile_name, profile in config.profiles.items():
        for index, name in enumerate(profile.gpus):
            yield _Reference("KI201", "GPU", name, config.gpus, ("profiles", profile_name, "gpus", index))
    for index, model in enumerate(config.models):
        yield from _references_of_model(model, index, config)
    models = [model.id for model in config.models]
    for index, persona in enumerate(config.personas):
        yield _Reference("KI206", "model", persona.base_model, models, ("personas", index, "base_model"))
    for purpose_name, purpose in config.purposes.items():
        for index, name in enumerate(purpose.candidates):
            yield _Reference("KI206", "model", name, models, ("purposes", purpose_name, "candidates", index))
        if purpose.otherwise is not None:
            address = ("purposes", purpose_name, "otherwise")
            yield _Reference("KI207", "purpose", purpose.otherwise, config.purposes, address)


def _references_of_model(model: ModelSpec, index: int, config: Config) -> Iterator[_Reference]:
    versions = [version.version_id for version in model.versions]
    yield _Reference("KI205", "version", model.current_version, versions, ("models", index, "current_version"))
    for profile in model.profiles:
        address = ("models", index, "profiles", profile)
        yield _Reference("KI204", "profile", profile, config.profiles, address, is_key=True)


def check_use(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find GPUs in no profile and models under no profile."""
    config = parsed.config
    used = {name for profile in config.profiles.values() for name in profile.gpus}
    for name in config.gpus:
        if name not in used:
            yield parsed.locate(_unused(f"The GPU {name}", "Name it in a profile"), ("gpus", name), at_key=True)
    for index, model in enumerate(config.models):
        if not any(model.profiles.values()):
            problem = _unused(f"The model {model.id}", "Give it a port under a profile")
            yield parsed.locate(problem, ("models", index, "profiles"))


def _unused(what: str, remedy: str) -> Diagnostic:
    return Diagnostic(
        code="KI224",
        summary="Declared and never used",
        detail=f"{what} is part of no profile.",
        hint=f"{remedy}, or take it out of the file.",
        severity=Severity.WARNING,
    )
