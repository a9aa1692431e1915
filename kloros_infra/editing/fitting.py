"""Which profiles a model that is about to be added fits into."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kloros_infra.compiler.resolve import build_catalog
from kloros_infra.diagnostics import Problems
from kloros_infra.editing.edits import Value
from kloros_infra.ir.catalog import Profile
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.lock import Lock, LockedWeights
from kloros_infra.ir.placement import CPU, Placement
from kloros_infra.placement.place import place


def profiles_that_fit(
    config: Config, entry: Mapping[str, Value], weights: Mapping[str, LockedWeights]
) -> tuple[tuple[str, ...], Problems]:
    """Place a model under each profile that its entry names; give those where it fits, and why not elsewhere."""
    spec = ModelSpec.model_validate_json(json.dumps(entry))
    alone = config.model_copy(update={"models": (spec,), "personas": (), "purposes": {}})
    tried = [(one.profile, *place(one)) for one in build_catalog(alone, Lock(weights)).instances]
    fitting = tuple(profile.name for profile, placement, _ in tried if _fits(profile, placement))
    return fitting, tuple(problem for _, _, problems in tried for problem in problems)


def _fits(profile: Profile, placement: Placement | None) -> bool:
    """Say whether all layers go on the cards, where a profile has any."""
    return placement is not None and (not profile.cards or CPU not in placement.layer_devices)
