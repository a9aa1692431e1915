"""A plan in one sentence: how much is added, changed and removed, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kloros_infra.ir.drift import Drift
from kloros_infra.ir.names import is_instance
from kloros_infra.ir.on_change import Deferral, OnChange
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import Action, Change, Plan
from kloros_infra.planner.figures import amount_text, seconds_text, size_text
from kloros_infra.planner.unit_changes import Verb
from kloros_infra.planner.unit_effects import CHANGE_LIVE, RELOAD

NOTHING = "No changes. The machine matches models.yaml."
NOTHING_INSTALLED = "No changes. Nothing of ours is installed."
NOTHING_THAT_MATTERS = "No changes that matter."
NOTHING_CHOSEN = "No changes to what was chosen; the rest was not looked at."

# Words of `unit_action` as they are counted in the summary.
COUNTED = {
    Verb.RESTART: "restart",
    RELOAD: "reload",
    CHANGE_LIVE: "live change",
    Verb.START: "start",
    Verb.START_AGAIN: "target start",
    Verb.STOP: "stop",
}


def shown_changes(plan: Plan, *, is_drift_shown: bool) -> tuple[Change, ...]:
    """Leave out what was changed on the machine without any effect, unless it is asked for."""
    return tuple(change for change in plan.changes if is_drift_shown or not change.is_harmless)


def shown_drift(plan: Plan, *, is_drift_shown: bool) -> tuple[Drift, ...]:
    """Leave out what is different and does not matter, unless it is asked for."""
    return tuple(one for one in plan.drift if is_drift_shown or one.matters)


def harmless_text(plan: Plan, *, is_drift_shown: bool) -> tuple[str, ...]:
    """Say in one line how much is not shown."""
    changed = len(plan.changes) - len(shown_changes(plan, is_drift_shown=is_drift_shown))
    folded = changed + len(plan.drift) - len(shown_drift(plan, is_drift_shown=is_drift_shown))
    folded += len(old_deferrals(plan, is_drift_shown=True)) - len(old_deferrals(plan, is_drift_shown=is_drift_shown))
    return (f"{amount_text(folded, 'harmless difference')} on the machine (--drift).", "") if folded else ()


def old_deferrals(plan: Plan, *, is_drift_shown: bool) -> tuple[Deferral, ...]:
    """Give what waits since an earlier plan and has no block in this one; nobody is reminded of what never restarts."""
    told = {change.address for change in plan.changes}
    old = (one for one in plan.deferred if one.address not in told)
    return tuple(one for one in old if is_drift_shown or one.on_change is not OnChange.NEVER)


def nothing_text(plan: Plan) -> str:
    """Say that nothing differs, as far as it was asked."""
    if plan.is_destroy:
        return NOTHING_INSTALLED
    if plan.only:
        return NOTHING_CHOSEN
    if plan.changes:
        return NOTHING_THAT_MATTERS
    waiting = len(old_deferrals(plan, is_drift_shown=False))
    return f"{NOTHING.removesuffix('.')}, {waiting} deferred." if waiting else NOTHING


def only_text(plan: Plan) -> tuple[str, ...]:
    """Warn that a plan is not whole."""
    if not plan.only:
        return ()
    return (
        f"WARNING: only {', '.join(plan.only)} will be looked at, because of --only.",
        "Everything else stays as it is, so the machine may not match models.yaml afterwards. This is for getting out",
        "of trouble, not for every day: make a whole plan next.",
        "",
    )


def counts(plan: Plan) -> tuple[int, int, int]:
    """Count addresses that are added, changed and removed; a restart changes, and what is harmless counts nowhere."""
    actions = Counter(change.action for change in plan.changes if not change.is_harmless)
    added, removed = actions[Action.CREATE], actions[Action.DELETE]
    return added, actions.total() - added - removed, removed


def summary_lines(plan: Plan) -> tuple[str, ...]:
    """Write the summary: one sentence of counts, then what it costs where it costs anything."""
    added, changed, removed = counts(plan)
    ways = ", ".join(_ways(plan))
    how = f" ({ways})" if ways else ""
    head = f"Plan: {added} to add, {changed} to change{how}, {removed} to remove{_spare(plan)}."
    return (head, *_costs(plan))


def _ways(plan: Plan) -> Iterator[str]:
    """Count what happens to units that stay."""
    found = Counter(
        change.unit_action
        for change in plan.changes
        if not change.is_harmless and change.action not in (Action.CREATE, Action.DELETE)
    )
    for action, word in COUNTED.items():
        if found[action]:
            yield amount_text(found[action], word)
    waiting = sum(one.on_change is not OnChange.NEVER for one in plan.deferred)
    if waiting:
        yield f"{waiting} deferred"


def _spare(plan: Plan) -> str:
    """Say how many models are out of reach meanwhile: the figure that decides when to apply."""
    down = [unit for unit in plan.impact.units if unit.seconds_down and is_instance(unit.unit)]
    alone = len(plan.impact.without_stand_in)
    return f"; {amount_text(alone, 'running model')} without a stand-in meanwhile" if down else ""


def _costs(plan: Plan) -> Iterator[str]:
    impact = plan.impact
    found = []
    if impact.reduced_s:
        found.append(f"about {seconds_text(impact.reduced_s)} of reduced service")
    if impact.read_bytes:
        found.append(f"{size_text(impact.read_bytes)} to read from disk")
    placed = sum(step.size_bytes for step in plan.steps if isinstance(step, PlaceWeights))
    if placed:
        found.append(f"{size_text(placed)} of weights to place")
    requests = sum(unit.requests or 0 for unit in impact.units)
    if requests:
        found.append(f"{amount_text(requests, 'request')} in flight")
    if found:
        yield f"Cost: {', '.join(found)}."


def applied_text(plan: Plan) -> str:
    """Say what an apply has done, in the words of the plan."""
    added, changed, removed = counts(plan)
    return f"Apply complete! {added} added, {changed} changed, {removed} removed."
