"""What plan and the router are told of a placement: what it takes of cards, and how fast it is foreseen to be."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kloros_infra.ir.card_share import CONTEXT_BYTES, MIB, CardShare
from kloros_infra.ir.placement import Placement, Prediction
from kloros_infra.placement.engines.interface import FIT


def card_shares(placement: Placement) -> Iterator[CardShare]:
    """Say what is added up for each card; megabytes that are begun count whole.

    Each server has a context there. Usable memory leaves one out, so that is on both sides.
    """
    for load in placement.loads:
        if load.card is not None and load.capacity_bytes is not None:
            used_bytes, holds_bytes = load.total_bytes + CONTEXT_BYTES, load.capacity_bytes + CONTEXT_BYTES
            yield CardShare(load.card, math.ceil(used_bytes / MIB), holds_bytes // MIB)


def foreseen(placement: Placement) -> Prediction | None:
    """Say how fast it is foreseen to be; what llama-server will decide when it starts is not known."""
    return None if placement.engine == FIT else placement.predicted
