"""A card as its driver sees it: how much of its memory is in use, and by which processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class SeenCard(NamedTuple):
    """What the driver says of a card; `held_bytes` is by process, without those that it does not count."""

    uuid: str | None
    pci: str | None
    total_bytes: int
    used_bytes: int
    held_bytes: Mapping[int, int]
