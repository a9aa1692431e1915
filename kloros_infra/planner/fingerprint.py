"""What a plan was made from, as digests: a saved plan holds only while all of it stays as it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields

from kloros_infra.ir.observed import Observed
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import digest, installed_tree


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """One value for each side that can move: what is wanted, and on the machine generation, files, store and units."""

    inputs: str
    generation: str
    files: str
    weights: str
    units: str


# What a person would say has moved.
MOVED = {
    "inputs": "models.yaml or its lock",
    "generation": "the current generation",
    "files": "installed files",
    "weights": "the weights in the store",
    "units": "the state of units",
}


def fingerprint(desired: Desired, observed: Observed) -> Fingerprint:
    """Digest both sides of a plan; what says the same differently, such as comments in models.yaml, does not count."""
    units = {
        name: (state.active, state.needs_reload, state.is_masked, state.is_stopped_by_hand)
        for name, state in observed.units.items()
    }
    return Fingerprint(
        inputs=_digest(
            [
                installed_tree(desired.tree),
                desired.profile,
                [(unit.unit, unit.run, unit.ready_url, unit.ports, unit.weights) for unit in desired.units],
                [(step.destination, step.sha256) for step in desired.weights],
                desired.keeps_weights,
                desired.resets_pins,
                sorted(desired.only) if desired.only is not None else None,
                sorted(desired.replaced),
            ]
        ),
        generation=str(observed.history.current),
        files=_digest(
            [
                {path: digest(artifact) for path, artifact in observed.files.items()},
                dict(observed.installed.digests),
                observed.installed.is_unfinished,
                sorted(observed.installed.owed),
            ]
        ),
        weights=_digest(dict(observed.weights)),
        units=_digest(units),
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def moved(before: Fingerprint, now: Fingerprint) -> tuple[str, ...]:
    """Name what differs, in words."""
    names = (field.name for field in fields(Fingerprint))
    return tuple(MOVED[name] for name in names if getattr(before, name) != getattr(now, name))
