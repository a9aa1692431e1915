"""`apply FILE`: carry out exactly the plan that was saved, or nothing at all."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.cli.changing import Manner, perform_plan, show_plan
from kloros_infra.cli.confirming import refuse_while_waiting
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.planning import make_planned
from kloros_infra.cli.wiring import locked_machine, target
from kloros_infra.errors import ObstacleError, StalePlanError
from kloros_infra.planner.saved_plan import load_plan, staleness


def carry_out_saved(file: Path, manner: Manner) -> None:
    """Show a saved plan and carry it out; raise StalePlanError when something else is there than it was made from.

    Nobody is asked: the plan was looked at when it was saved.
    """
    saved, problems = load_plan(file.read_text(encoding="utf-8", errors="replace"))
    if saved is None:
        raise ObstacleError(problems)
    where = target(Path(saved.request.root), saved.request.manager)
    refuse_while_waiting(where)
    display = ProgressDisplay()
    with locked_machine(where, display, wait_s=manner.wait_s) as machine:
        now = make_planned(saved.request)
        stale = staleness(saved, now.fingerprint)
        if stale:
            raise StalePlanError(stale)
        show_plan(saved.plan, now.problems)
        perform_plan(saved.plan, manner, machine=machine, display=display)
