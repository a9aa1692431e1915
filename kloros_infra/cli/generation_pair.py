"""`diff [N] [M]`: read two generations of a target and write what differs."""

from __future__ import annotations

import shutil
import sys

from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.executor.generations import read_generation
from kloros_infra.ir.generation import History
from kloros_infra.planner.explain import change_lines
from kloros_infra.planner.generation_diff import generation_changes, generation_text_diffs

SAME = "No differences."


def difference_lines(where: Target, before: int | None, after: int | None, *, is_text: bool) -> tuple[str, ...]:
    """Compare two generations; raise ObstacleError when one of them is not kept, or damaged."""
    generations = generations_of(where)
    first, second = pair(generations.history(), before, after)
    old, new = (read_generation(generations, number) for number in (first, second))
    if is_text:
        return generation_text_diffs(old, new, where.layout) or (SAME,)
    width, color = shutil.get_terminal_size().columns, sys.stdout.isatty()
    head = f"From generation {first} to {second}:"
    return (head, "", *(change_lines(generation_changes(old, new, where.layout), width=width, color=color) or (SAME,)))


def pair(history: History, before: int | None, after: int | None) -> tuple[int, int]:
    """Settle which two are meant; 0, which no generation has, where there is none to mean."""
    second = after if after is not None else history.current or 0
    earlier = (number for number in history.numbers if number < second)
    return (before if before is not None else max(earlier, default=0)), second
