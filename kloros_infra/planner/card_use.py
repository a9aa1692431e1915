"""What an instance takes of cards: as its running process was told, and as it shall be."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.ir.artifact import Artifact, text_of
from kloros_infra.ir.card_share import CARD_SHARES_KEY, CardShare, read_shares
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.keeping import remembered


def running_shares(unit: str, both: Comparison) -> tuple[CardShare, ...]:
    """Say what a unit that runs takes of cards: by what it was started with."""
    known = remembered(unit, both)
    if known is not None:
        return _read(known.definition.unit)
    return file_shares(unit, both.observed.files, both.desired.layout)


def desired_shares(unit: str, both: Comparison) -> tuple[CardShare, ...]:
    """Say what a unit takes of cards once it runs as desired."""
    return file_shares(unit, both.desired.tree, both.desired.layout)


def file_shares(unit: str, files: Mapping[str, Artifact], layout: Layout) -> tuple[CardShare, ...]:
    """Read what a unit's file says that it takes."""
    return _read(text_of(files.get(layout.unit_path(unit))))


def _read(text: str) -> tuple[CardShare, ...]:
    return read_shares(unit_keys(text).get(f"Unit.{CARD_SHARES_KEY}", ""))
