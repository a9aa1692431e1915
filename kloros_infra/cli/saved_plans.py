"""`apply FILE`: carry out exactly the plan that was saved, or nothing at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kloros_infra.cli.changing import Manner, perform_plan, show_plan
from kloros_infra.cli.confirming import do_confirmed
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.planning import make_planned
from kloros_infra.cli.wiring import target
from kloros_infra.errors import ObstacleError, StalePlanError
from kloros_infra.executor.machine import Machine
from kloros_infra.planner.saved_plan import SavedPlan, load_plan, staleness


def carry_out_saved(file: Path, manner: Manner, *, within_s: float | None = None) -> None:
    """Show a saved plan and carry it out; raise StalePlanError when something else is there than it was made from.

    Nobody is asked: the plan was looked at when it was saved. With `within_s` it is undone unless it is confirmed.
    """
    saved, problems = load_plan(file.read_text(encoding="utf-8", errors="replace"))
    if saved is None:
        raise ObstacleError(problems)
    where = target(Path(saved.request.root), saved.request.manager)
    do_confirmed(partial(_carry_out, saved, manner), where, wait_s=manner.wait_s, within_s=within_s)


def _carry_out(saved: SavedPlan, manner: Manner, machine: Machine, display: ProgressDisplay) -> bool:
    now = make_planned(saved.request)
    stale = staleness(saved, now.fingerprint)
    if stale:
        raise StalePlanError(stale)
    show_plan(saved.plan, now.problems)
    return perform_plan(saved.plan, manner, machine=machine, display=display)
