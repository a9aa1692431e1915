"""A plan as lines for people, in Terraform's grammar: symbols, one block per address, a reason, a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.plan import Action, Change, KeyChange, PlaceWeights, Plan
from kloros_infra.planner.figures import seconds_text, size_text

NOTHING = "No changes. The machine matches models.yaml."
LEAST_VALUE_WIDTH = 20

SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.START: "~",
    Action.STOP: "~",
    Action.DELETE: "-",
    Action.REPLACE: "-/+",
}
LEGEND = {
    "+": "create",
    "~": "update in place",
    "-": "destroy",
    "-/+": "restart (destroy and create again)",
}
HEADERS = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated in-place",
    Action.START: "will be started",
    Action.STOP: "will be stopped",
    Action.DELETE: "will be destroyed",
    Action.REPLACE: "must be restarted",
}
# ECMA-48, 8.3.117 SGR: 31 red, 32 green, 33 yellow, 1 bold, 0 default.
COLORS = {"+": "\x1b[32m", "~": "\x1b[33m", "-": "\x1b[31m", "-/+": "\x1b[31m"}
BOLD, DEFAULT = "\x1b[1m", "\x1b[0m"


class _Pen:
    """Writes words that fit the terminal and cannot steer it."""

    def __init__(self, width: int, color: bool) -> None:
        self.width = width
        self.color = color

    def symbol(self, symbol: str) -> str:
        padded = symbol.rjust(3)
        return f"{COLORS[symbol]}{padded}{DEFAULT}" if self.color else padded

    def bold(self, text: str) -> str:
        return f"{BOLD}{text}{DEFAULT}" if self.color else text

    def value(self, text: str, room: int) -> str:
        """Write a value; what a file on the machine holds may be anything, escape sequences as well."""
        plain = _printable(text)
        room = max(room, LEAST_VALUE_WIDTH)
        return plain if len(plain) <= room else f"{plain[: room - 1]}…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain(plan: Plan, warnings: Iterable[Diagnostic], *, width: int, color: bool) -> tuple[str, ...]:
    """Write a plan as lines of about `width` columns."""
    pen = _Pen(width, color)
    noted = tuple(line for warning in warnings for line in _warning(warning))
    if plan.is_empty:
        return (*noted, NOTHING)
    body = tuple(line for change in plan.changes for line in (*_block(change, pen), ""))
    return (*_legend(plan, pen), "", *body, *noted, *_summary(plan, pen))


def _legend(plan: Plan, pen: _Pen) -> Iterator[str]:
    used = {SYMBOLS[change.action] for change in plan.changes}
    yield "kloros-infra will do the following, marked by these symbols:"
    for symbol, meaning in LEGEND.items():
        if symbol in used:
            yield f"{pen.symbol(symbol)} {meaning}"


def _block(change: Change, pen: _Pen) -> Iterator[str]:
    symbol = SYMBOLS[change.action]
    yield pen.bold(f"  # {change.address} {HEADERS[change.action]}")
    yield f"  # (because {_printable(change.reason)})"
    if change.unit_action:
        yield f"  # (unit: {_unit_action(change)})"
    yield f"{pen.symbol(symbol)} {change.address}"
    # Old and new must line up for the eye; names are ours, so they are as long as they are.
    longest = max((len(key.key) for key in change.keys), default=0)
    for key in change.keys:
        yield f"    {_key_line(key, longest, pen)}"
    if change.hidden:
        kind = "keys" if change.action is Action.CREATE else "unchanged keys"
        yield f"        # ({change.hidden} {kind} hidden)"


def _key_line(key: KeyChange, longest: int, pen: _Pen) -> str:
    name = f"{key.key}:".ljust(longest + 1)
    room = pen.width - len(name) - 10
    if key.before is None or key.after is None:
        symbol = "+" if key.before is None else "-"
        return f"{pen.symbol(symbol)} {name} {pen.value(key.after or key.before or '', room)}"
    half = (room - 4) // 2
    return f"{pen.symbol('~')} {name} {pen.value(key.before, half)} -> {pen.value(key.after, half)}"


def _unit_action(change: Change) -> str:
    return f"{change.unit_action}, about {seconds_text(change.seconds)}" if change.seconds else change.unit_action


def _summary(plan: Plan, pen: _Pen) -> Iterator[str]:
    added, changed, destroyed = _counts(plan)
    yield pen.bold(f"Plan: {added} to add, {changed} to change, {destroyed} to destroy.")
    effects = tuple(_effects(plan))
    if effects:
        yield f"Units: {', '.join(effects)}."
    fetched = sum(step.size_bytes for step in plan.steps if isinstance(step, PlaceWeights))
    if fetched:
        yield f"Weights to place: {size_text(fetched)}."


def _effects(plan: Plan) -> Iterator[str]:
    for verb in ("start", "restart", "stop"):
        seconds = [change.seconds for change in plan.changes if change.unit_action == verb]
        if seconds:
            about = f" (about {seconds_text(sum(seconds))})" if any(seconds) else ""
            yield f"{len(seconds)} {verb}{'s' * (len(seconds) > 1)}{about}"


def _warning(warning: Diagnostic) -> Iterator[str]:
    yield f"{warning.severity.capitalize()} {warning.code}: {warning.summary}"
    yield f"  {warning.detail}"
    yield f"  {warning.hint}"
    yield ""


def applied_text(plan: Plan) -> str:
    """Say what an apply has done, in the words of the plan."""
    added, changed, destroyed = _counts(plan)
    return f"Apply complete! {added} added, {changed} changed, {destroyed} destroyed."


def _counts(plan: Plan) -> tuple[int, int, int]:
    actions = Counter(change.action for change in plan.changes)
    added, destroyed = actions[Action.CREATE], actions[Action.DELETE]
    return added, actions.total() - added - destroyed, destroyed
