"""A plan as Markdown for a pull request: the same words as on the terminal, behind a summary that is always seen.

GitHub colours the lines of a `diff` block by their first character, so symbols move there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.explain import explain
from kloros_infra.planner.matrix import MatrixRow, matrix_cells
from kloros_infra.planner.summary import nothing_text, summary_lines

WIDTH = 110
MOST_CHARACTERS = 65_000
"""A comment on GitHub holds 65,536 characters, of whatever it consists."""
KEPT_FOR_FILES = 5_000
WRAPPING = 200
"""What stands around folded lines, and the line that says how many are left out."""

SYMBOL = re.compile(r"^( +)([-+~])( .*)$")
# In a diff block `+` is green, `-` red and `!` orange; the sign of a restart stands first as it is, and is red.
FIRST = {"+": "+", "-": "-", "~": "!"}


def plan_markdown(
    plan: Plan, warnings: Iterable[Diagnostic], *, diffs: Sequence[str] = (), is_drift_shown: bool = False
) -> str:
    """Write a plan: its summary, then all of it folded, then the diffs of files if there are any."""
    lines = explain(plan, warnings, width=WIDTH, color=False, is_drift_shown=is_drift_shown)
    head, *costs = (nothing_text(plan),) if plan.is_empty else summary_lines(plan)
    if lines == (head,):
        return f"**{head}**\n"
    summary = "\n\n".join((f"**{head}**", *costs))
    room = MOST_CHARACTERS - len(summary)
    whole = _folded("The whole plan", [_symbol_first(line) for line in lines], room - (KEPT_FOR_FILES if diffs else 0))
    parts = [summary, whole]
    if diffs:
        parts.append(_folded("Files", diffs, room - len(whole)))
    return "\n\n".join(parts) + "\n"


def matrix_markdown(rows: Sequence[MatrixRow]) -> str:
    """Write a matrix as a table."""
    header, *cells = matrix_cells(rows)
    table = [header, tuple("---" for _ in header), *cells]
    return "".join(f"| {' | '.join(row)} |\n" for row in table)


def _symbol_first(line: str) -> str:
    found = SYMBOL.match(line)
    if found is None:
        return line
    blanks, symbol, rest = found.groups()
    return f"{FIRST[symbol]}{blanks}{rest}"


def _folded(title: str, lines: Sequence[str], room: int) -> str:
    """Fold lines away, as many as there is room for."""
    shown = _cut(lines, room - WRAPPING)
    # A fence must be longer than any run of the same character inside (CommonMark, 4.5).
    longest = max((len(run) for line in shown for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"<details><summary>{title}</summary>\n\n{fence}diff\n" + "\n".join(shown) + f"\n{fence}\n\n</details>"


def _cut(lines: Sequence[str], room: int) -> list[str]:
    left = room - 2 * max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    for index, line in enumerate(lines):
        left -= len(line) + 1
        if left < 0:
            return [*lines[:index], f"({len(lines) - index} more lines; `kloros-infra plan` shows them)"]
    return list(lines)
