"""Everything on the processor, where a profile has no cards."""

from __future__ import annotations

from kloros_infra.ir.placement import CPU
from kloros_infra.placement.engines.interface import CPU_ENGINE, Engine, Outcome, Request, decided
from kloros_infra.placement.engines.manual import if_it_fits
from kloros_infra.placement.speed import in_runs


def _place(request: Request) -> Outcome:
    return if_it_fits(request, decided(CPU_ENGINE, request.task, in_runs((), (CPU,) * request.slots)))


ENGINE = Engine(CPU_ENGINE, version=2, place=_place)
