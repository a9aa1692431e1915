"""Which files an instance loads, and where the store keeps them: its weights, its projector, its draft model."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.catalog import Model
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import LockedWeights


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """Pinned weights and the store's path of their first file, the one that a server is given."""

    path: str
    weights: LockedWeights


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Everything that a server of a model loads."""

    own: StoredWeights
    projector: StoredWeights | None
    draft: StoredWeights | None

    @property
    def all(self) -> tuple[StoredWeights, ...]:
        return tuple(stored for stored in (self.own, self.projector, self.draft) if stored is not None)

    @property
    def size_bytes(self) -> int:
        return sum(stored.weights.size_bytes for stored in self.all)


def model_files(model: Model, layout: Layout) -> ModelFiles:
    """Say which files a model's server loads."""
    draft = model.draft
    return ModelFiles(
        own=_stored(model.id, model.version_id, model.weights, layout),
        projector=None
        if model.projector is None
        else StoredWeights(layout.mmproj_path(model.id, model.version_id), model.projector),
        draft=None if draft is None else _stored(draft.model_id, draft.version_id, draft.weights, layout),
    )


def _stored(model_id: str, version_id: str, weights: LockedWeights, layout: Layout) -> StoredWeights:
    return StoredWeights(layout.weights_path(model_id, version_id, parts=weights.part_count), weights)
