"""llama-server decides by itself when it starts: what it will find cannot be known here."""

from __future__ import annotations

from kloros_infra.placement.engines.interface import FIT, Engine, Outcome, Request
from kloros_infra.placement.engines.manual import by_capacity, with_counts


def _place(request: Request) -> Outcome:
    # By capacity is its own first guess.
    return with_counts(request, by_capacity(request), FIT), ()


ENGINE = Engine(FIT, version=1, place=_place)
