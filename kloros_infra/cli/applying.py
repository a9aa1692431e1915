"""`apply`: plan from models.yaml as `plan` does, and carry that out."""

from __future__ import annotations

from functools import partial

from kloros_infra.cli.changing import Manner, perform_plan, show_plan
from kloros_infra.cli.confirming import do_confirmed
from kloros_infra.cli.display import ProgressDisplay
from kloros_infra.cli.planning import Prepared, look, prepare
from kloros_infra.cli.render import show_problems
from kloros_infra.executor.machine import Machine
from kloros_infra.planner.request import PlanRequest


def apply_request(request: PlanRequest, manner: Manner, *, within_s: float | None, is_cached: bool = True) -> None:
    """Plan, show, ask and apply; with `within_s`, what was done is undone unless it is confirmed by then.

    What is wrong with models.yaml is said before the lock is asked for.
    """
    prepared = prepare(request, is_cached=is_cached)
    if prepared.project is not None and prepared.compiled is not None:
        show_problems(prepared.compiled.warnings, prepared.project.sources)
    do_confirmed(partial(_carry_out, prepared, manner), prepared.where, wait_s=manner.wait_s, within_s=within_s)


def _carry_out(prepared: Prepared, manner: Manner, machine: Machine, display: ProgressDisplay) -> bool:
    planned = look(prepared)
    show_plan(planned.made, planned.problems)
    return perform_plan(planned.made, manner, machine=machine, display=display)
