"""The external gguf-tensor-overrider."""

from __future__ import annotations

from kloros_infra.placement import problems
from kloros_infra.placement.engines.interface import Engine, Outcome, Request


def _place(request: Request) -> Outcome:
    return None, (problems.engine_not_available(request.instance),)


ENGINE = Engine("overrider", version=1, place=_place)
