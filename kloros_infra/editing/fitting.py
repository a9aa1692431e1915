"""Which profiles a model that is about to be added fits into."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kloros_infra.compiler.resolve import build_catalog
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.editing.edits import Value
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec
from kloros_infra.ir.lock import Lock, LockedWeights
from kloros_infra.placement.place import place


def profiles_that_fit(
    config: Config, entry: Mapping[str, Value], weights: Mapping[str, LockedWeights]
) -> tuple[tuple[str, ...], Problems]:
    """Place a model under each profile that its entry names; give those where it fits, and why not elsewhere."""
    spec = ModelSpec.model_validate_json(json.dumps(entry))
    alone = config.model_copy(update={"models": (spec,), "personas": (), "purposes": {}})
    tried = [(one.profile.name, place(one)[1]) for one in build_catalog(alone, Lock(weights)).instances]
    fitting = tuple(profile for profile, problems in tried if not has_errors(problems))
    return fitting, tuple(problem for _, problems in tried for problem in problems)
