"""What a plan was made from, as digests: a saved plan holds only while all of it stays as it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields

from kloros_infra.ir.observed import Observed
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import digest, installed_tree
from kloros_infra.planner.generation_changes import next_number


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
    "generation": "the generations",
    "files": "installed files",
    "weights": "the weights in the store",
    "units": "the state of units",
}


def fingerprint(desired: Desired, observed: Observed) -> Fingerprint:
    """Digest both sides of a plan; what says the same differently, such as comments in models.yaml, does not count."""
    return Fingerprint(
        inputs=_digest(
            [
                installed_tree(desired.tree),
                desired.profile,
                list(map(repr, desired.units)),
                [(step.destination, step.sha256) for step in desired.weights],
                desired.keeps_weights,
                desired.exposure_limit,
                desired.keep_generations,
                desired.resets_pins,
                sorted(desired.only) if desired.only is not None else None,
                sorted(desired.replaced),
            ]
        ),
        # A plan names the generation that it stages, whose number others may have taken since, and those that go.
        generation=_digest([repr(observed.history), observed.installed.staged, next_number(observed)]),
        files=_digest(
            [
                {path: digest(artifact) for path, artifact in observed.files.items()},
                dict(observed.installed.digests),
                observed.installed.is_unfinished,
                sorted(observed.installed.owed),
                {unit: repr(kept) for unit, kept in observed.installed.kept.items()},
            ]
        ),
        weights=_digest(dict(observed.weights)),
        # Whole states: a process that was started anew runs by other files than the one that the plan was made for.
        units=_digest({name: repr(state) for name, state in observed.units.items()}),
    )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def moved(before: Fingerprint, now: Fingerprint) -> tuple[str, ...]:
    """Name what differs, in words."""
    names = (field.name for field in fields(Fingerprint))
    return tuple(MOVED[name] for name in names if getattr(before, name) != getattr(now, name))
