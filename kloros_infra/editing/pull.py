"""Weights that were found on the hub → edits that bring them into models.yaml, and entries for the lock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kloros_infra.diagnostics import Problems
from kloros_infra.editing.edits import AppendItem, Edit, SetValue, model_at
from kloros_infra.editing.fitting import profiles_that_fit
from kloros_infra.editing.new_model import Pulled, model_entry, model_id_for, version_entry
from kloros_infra.editing.versions import next_version_id
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.lock import MMPROJ_SUFFIX, Lock, LockedWeights, mmproj_key, weights_key

_PROVISIONAL = "pull"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for beside the weights, and the day's date."""

    today: str
    name: str | None = None
    is_promotion: bool = False


@dataclass(frozen=True, slots=True)
class Addition:
    """A version that pulled weights belong to, the edits that add it, and what the lock shall say of it."""

    model_id: str
    version_id: str
    edits: tuple[Edit, ...]
    entries: Mapping[str, LockedWeights]


def provisional(config: Config, source: str, projector: str | None) -> Config:
    """Make a config with one model of these weights, so that they can be pinned before anything is written."""
    version = {"version_id": _PROVISIONAL, "gguf_url": source, "mmproj_url": projector}
    model = {
        "id": model_id_for(source, ()),
        "display_name": source,
        "purpose_tags": [_PROVISIONAL],
        "context_tokens": 256,
        "cost_tier": CostTier.LOW.value,
        "versions": [version],
    }
    spec = ModelSpec.model_validate_json(json.dumps(model))
    return config.model_copy(update={"models": (spec,), "personas": (), "purposes": {}})


def pulled_from(repository: str, lock: Lock) -> Pulled:
    """Take from the lock what it pins for a provisional config."""
    by_role = {key.endswith(MMPROJ_SUFFIX): entry for key, entry in lock.weights.items()}
    return Pulled(repository, by_role[False], by_role.get(True))


def add_pulled(config: Config, lock: Lock, pulled: Pulled, wishes: Wishes) -> tuple[Addition | None, Problems]:
    """Say how weights come into models.yaml: as a version of the model that has them already, or as a new one.

    None when a new model fits under no profile, with the reasons.
    """
    model = _model_for(config, pulled.repository, wishes.name)
    if model is None:
        return _new_model(config, pulled, wishes)
    version_id = _version_pulled_before(model, pulled, lock)
    edits: tuple[Edit, ...] = ()
    has_projector = model.kind is ModelKind.VISION
    if version_id is None:
        version_id = next_version_id((version.version_id for version in model.versions), wishes.today)
        entry = version_entry(version_id, pulled, has_projector=has_projector)
        edits = (AppendItem((*model_at(model.id), "versions"), entry),)
    current = version_id if wishes.is_promotion or not model.versions else model.version_in_use
    if current is not None and current != model.current_version and (edits or wishes.is_promotion):
        edits = (*edits, SetValue((*model_at(model.id), "current_version"), current))
    return Addition(model.id, version_id, edits, _entries(model.id, version_id, pulled, has_projector)), ()


def _model_for(config: Config, repository: str, name: str | None) -> ModelSpec | None:
    """Find the model that was named, or else the last one whose weights come from the repository."""
    if name is not None:
        return next((model for model in config.models if name in (model.id, model.unit_name)), None)
    beginnings = tuple(f"hf://{repository}{end}".lower() for end in "/@")
    fitting = (model for model in reversed(config.models) if _has_source(model, beginnings))
    return next(fitting, None)


def _has_source(model: ModelSpec, beginnings: tuple[str, ...]) -> bool:
    return any(url.lower().startswith(beginnings) for version in model.versions for url in version.gguf_url)


def _version_pulled_before(model: ModelSpec, pulled: Pulled, lock: Lock) -> str | None:
    """Find a version with the same weights: of the same source, and pinned to the same bytes if it is pinned."""
    for version in model.versions:
        pinned = lock.weights.get(weights_key(model.id, version.version_id))
        is_same = pinned is None or pinned.is_derived or pinned.sha256 == pulled.weights.sha256
        if version.gguf_url == (pulled.source,) and is_same:
            return version.version_id
    return None


def _new_model(config: Config, pulled: Pulled, wishes: Wishes) -> tuple[Addition | None, Problems]:
    version_id = next_version_id((), wishes.today)
    everywhere = model_entry(config, pulled, version_id=version_id, name=wishes.name, profiles=config.profiles)
    model_id = str(everywhere["id"])
    entries = _entries(model_id, version_id, pulled, "mmproj_url" in str(everywhere["versions"]))
    fitting, problems = profiles_that_fit(config, everywhere, entries)
    if not fitting:
        return None, problems
    entry = model_entry(config, pulled, version_id=version_id, name=wishes.name, profiles=fitting)
    return Addition(model_id, version_id, (AppendItem(("models",), entry),), entries), problems


def _entries(model_id: str, version_id: str, pulled: Pulled, has_projector: bool) -> dict[str, LockedWeights]:
    """Give what is pinned the names that the lock has for it."""
    found = {weights_key(model_id, version_id): pulled.weights}
    if pulled.projector is not None and has_projector:
        found[mmproj_key(model_id, version_id)] = pulled.projector
    return {key: replace(entry, key=key) for key, entry in found.items()}
