"""The two sides that a plan compares, as every part of the planner is given them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kloros_infra.ir.observed import Observed
from kloros_infra.ir.on_change import Kept
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import FileChange


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two sides, the files that differ, the paths that are not ours, and store paths that get other weights.

    `kept` are the processes that this plan leaves running by a former definition, by unit.
    """

    desired: Desired
    observed: Observed
    files: Mapping[str, FileChange]
    foreign: frozenset[str]
    replaced_weights: frozenset[str]
    kept: Mapping[str, Kept] = field(default_factory=dict)
