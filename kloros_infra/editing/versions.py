"""Versions of a model: which comes next, which came before, and whose it is that was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from kloros_infra.compiler.suggest import suggest
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec


def find_model(config: Config, asked: str) -> ModelSpec | Diagnostic:
    """Find a model by id, name or alias."""
    known = {name: model for model in config.models for name in (*model.aliases, model.unit_name, model.id)}
    return known.get(asked) or Diagnostic(
        code="KI525",
        summary="Unknown model",
        detail=f"No model, name or alias in models.yaml is {asked!r}.",
        hint=suggest(asked, sorted(known)),
    )


def check_version(model: ModelSpec, asked: str) -> Diagnostic | None:
    """Say whether a model lacks a version."""
    known = [version.version_id for version in model.versions]
    if asked in known:
        return None
    return Diagnostic(
        code="KI526",
        summary="Unknown version",
        detail=f"{model.id} has no version {asked!r}.",
        hint=suggest(asked, known),
        address=f"models.{model.id}.versions",
    )


def version_before(model: ModelSpec) -> str | Diagnostic:
    """Give the version that stands before the one in use, as the file lists them."""
    known = [version.version_id for version in model.versions]
    place = known.index(model.version_in_use) if model.version_in_use in known else 0
    if place > 0:
        return known[place - 1]
    return Diagnostic(
        code="KI527",
        summary="No version before this one",
        detail=f"{model.version_in_use or 'None'} is the first version of {model.id} in models.yaml.",
        hint="Name the version to go to with --to." if len(known) > 1 else "Pull another version first.",
        address=f"models.{model.id}.versions",
    )


def next_version_id(taken: Iterable[str], today: str) -> str:
    """Name a new version by the date and a counter, as in `2025-11-17-01`."""
    prefix = f"{today}-"
    counters = [name.removeprefix(prefix) for name in taken if name.startswith(prefix)]
    last = max((int(counter) for counter in counters if counter.isdecimal()), default=0)
    return f"{prefix}{last + 1:02d}"
