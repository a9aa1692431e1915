"""The checks as lines for people, or as one JSON object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

import click

from kloros_infra.doctor.check import Check, Status

VERSION = 1
COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILURE: "red"}
PLURALS = {Status.OK: "ok", Status.WARNING: "warnings", Status.FAILURE: "failures"}
WIDTH = max(len(status) for status in Status)
INDENT = " " * (WIDTH + 4)


def report_lines(checks: Sequence[Check]) -> Iterator[str]:
    """Write the groups one below the other, and how many there were of each kind."""
    for group, members in groupby(checks, key=lambda check: check.group):
        yield click.style(group, bold=True)
        for check in members:
            yield from _check_lines(check)
        yield ""
    yield _summary(checks)


def _check_lines(check: Check) -> Iterator[str]:
    status = click.style(check.status.ljust(WIDTH), fg=COLORS[check.status])
    code = f" [{check.code}]" if check.code else ""
    yield f"  {status}  {check.name}: {_plain(check.detail)}{code}"
    if check.code:
        yield f"{INDENT}why: {check.why}"
        yield f"{INDENT}fix: {_plain(check.fix)}"


def _plain(text: str) -> str:
    """Keep to one line what others wrote: it cannot steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _summary(checks: Sequence[Check]) -> str:
    counts = Counter(check.status for check in checks)
    return ", ".join(f"{counts[status]} {_word(status, counts[status])}" for status in Status) + "."


def _word(status: Status, count: int) -> str:
    return status.value if count == 1 else PLURALS[status]


def report_json(checks: Sequence[Check]) -> str:
    """Write all of it as one versioned object."""
    counts = Counter(check.status for check in checks)
    counted = {status.value: counts[status] for status in Status}
    return json.dumps({"version": VERSION, "counts": counted, "checks": [asdict(check) for check in checks]})
