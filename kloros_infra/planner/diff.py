"""Station 5: Desired + Observed → Plan.

Files are compared with what is there and with what we remember having put there, units with what they run by; both
become changes for people and steps for the executor. The same two sides give the same plan, and a machine that is
as desired gives an empty one.
"""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.diagnostics import Problems, Severity
from kloros_infra.ir.observed import Observed
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.address import desired_addresses, unit_address
from kloros_infra.planner.changes import changes, env_owners
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.drift import drift
from kloros_infra.planner.file_changes import file_changes, foreign_paths
from kloros_infra.planner.generation_changes import move
from kloros_infra.planner.impact import impact
from kloros_infra.planner.keeping import deferrals, kept_units, moved_for_good
from kloros_infra.planner.obstacles import problems, refusals
from kloros_infra.planner.order import Work, ports, steps
from kloros_infra.planner.unit_changes import masked_units, unit_changes, waiting_units


def plan(desired: Desired, observed: Observed) -> tuple[Plan, Problems]:
    """Say what must change so that the machine becomes as desired, and what stands in the way."""
    place = missing_weights(desired, observed)
    remove = unwanted_weights(desired, observed)
    replaced = frozenset(step.destination for step in place if step.destination in observed.weights)
    foreign = frozenset(foreign_paths(desired, observed))
    looked_at = Comparison(desired, observed, file_changes(desired, observed), foreign, replaced)
    units = unit_changes(looked_at)
    waiting = waiting_units(looked_at, units)
    both = replace(looked_at, kept=kept_units(looked_at, units, waiting.keys() | masked_units(looked_at, units)))
    immovable = moved_for_good(both, waiting)
    work = Work(both, units, place, remove, move(desired, observed))
    found = changes(both, units, place, remove)
    ordered = steps(work)
    addresses = desired_addresses(desired, env_owners(both).keys() | foreign)
    made = Plan(
        changes=found,
        steps=ordered,
        unchanged=len(addresses - {change.address for change in found}),
        ports=ports(work),
        refusals=(*refusals(desired, observed), *immovable),
        impact=impact(ordered, both),
        drift=drift(both, units),
        deferred=deferrals(both, waiting),
        only=tuple(sorted(map(unit_address, desired.only or ()))),
        is_destroy=desired.is_destroyed,
    )
    return made, (*problems(desired, observed), *(replace(problem, severity=Severity.WARNING) for problem in immovable))


def missing_weights(desired: Desired, observed: Observed) -> tuple[PlaceWeights, ...]:
    """List weights that the store lacks, or holds with other bytes than the lock pins."""
    return tuple(step for step in desired.weights if observed.weights.get(step.destination) != step.sha256)


def unwanted_weights(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """List store paths to empty: none, unless it was asked for, as weights are dear to fetch again."""
    wanted = frozenset(step.destination for step in (*desired.weights, *desired.other_weights))
    return () if desired.keeps_weights else tuple(sorted(observed.weights.keys() - wanted))
