"""`diff [N] [M]`: read two generations of a target and write what differs."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from kloros_infra.cli.terminal import is_colored, terminal_width
from kloros_infra.cli.wiring import Target, generations_of
from kloros_infra.executor.generations import former_generation, read_generation
from kloros_infra.planner.explain import change_lines
from kloros_infra.planner.explain_json import changes_json
from kloros_infra.planner.generation_diff import generation_changes, generation_text_diffs

SAME = "No differences."


class Form(StrEnum):
    """How a difference is written."""

    BLOCKS = "blocks"
    TEXT = "text"
    JSON = "json"


def difference_lines(where: Target, before: int | None, after: int | None, form: Form = Form.BLOCKS) -> tuple[str, ...]:
    """Compare two generations; raise ObstacleError when one of them is not kept, or damaged."""
    generations = generations_of(where)
    # No generation has the number 0: it stands for one that is not there.
    second = after or generations.history().current or 0
    first = before or former_generation(generations, second) or 0
    old, new = (read_generation(generations, number) for number in (first, second))
    match form:
        case Form.TEXT:
            return generation_text_diffs(old, new, where.layout) or (SAME,)
        case Form.JSON:
            return changes_json(generation_changes(old, new, where.layout))
        case Form.BLOCKS:
            head = f"From generation {first} to {second}:"
            changes = generation_changes(old, new, where.layout)
            return (head, "", *(change_lines(changes, width=terminal_width(), color=is_colored()) or (SAME,)))
        case _ as never:
            assert_never(never)
