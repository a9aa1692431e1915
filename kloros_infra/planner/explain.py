"""A plan as lines for people, in Terraform's grammar: symbols, one block per address, a reason, a summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.drift import Drift
from kloros_infra.ir.exposure import ExposureChange
from kloros_infra.ir.impact import CardMemory, UnitImpact
from kloros_infra.ir.on_change import Deferral
from kloros_infra.ir.plan import Action, Change, KeyChange, Plan
from kloros_infra.planner.address import unit_address
from kloros_infra.planner.figures import amount_text, seconds_text, size_text
from kloros_infra.planner.placement_changes import placement_change
from kloros_infra.planner.summary import (
    harmless_text,
    nothing_text,
    old_deferrals,
    only_text,
    shown_changes,
    shown_drift,
    summary_lines,
)
from kloros_infra.planner.unit_effects import CHANGE_LIVE, DEFERRED, RELOAD
from kloros_infra.planner.unit_effects import NOTHING as NO_ACTION

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
    "-": "remove",
    "-/+": "restart: stop, then start by the new definition",
}
HEADERS = {
    Action.CREATE: "will be created",
    Action.UPDATE: "will be updated in-place",
    Action.START: "will be started",
    Action.STOP: "will be stopped",
    Action.DELETE: "will be removed",
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
        plain = printable(text)
        room = max(room, LEAST_VALUE_WIDTH)
        return plain if len(plain) <= room else f"{plain[: room - 1]}…"


def printable(text: str) -> str:
    """Write what cannot be printed, or would steer a terminal, by its code."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def explain(
    plan: Plan, warnings: Iterable[Diagnostic], *, width: int, color: bool, is_drift_shown: bool = False
) -> tuple[str, ...]:
    """Write a plan as lines of about `width` columns; differences without effect in full only on demand."""
    pen = _Pen(width, color)
    warned = only_text(plan)
    noted = (
        *(line for warning in warnings for line in _warning(warning)),
        *_drift(shown_drift(plan, is_drift_shown=is_drift_shown), pen),
        *_deferred(old_deferrals(plan, is_drift_shown=is_drift_shown), pen),
        *harmless_text(plan, is_drift_shown=is_drift_shown),
    )
    shown = shown_changes(plan, is_drift_shown=is_drift_shown)
    if plan.is_empty:
        return (*warned, *_body(plan, shown, pen), *noted, nothing_text(plan))
    head, *costs = summary_lines(plan)
    # Warned twice: the first lines of a long plan have scrolled away.
    return (*warned, *_body(plan, shown, pen), *_memory(plan), *noted, *warned, pen.bold(head), *costs)


def change_lines(changes: Iterable[Change], *, width: int, color: bool) -> tuple[str, ...]:
    """Write the blocks of changes alone, as for two generations that are compared."""
    pen = _Pen(width, color)
    return tuple(line for change in changes for line in (*_block(change, None, (), pen), ""))


def _body(plan: Plan, changes: tuple[Change, ...], pen: _Pen) -> Iterator[str]:
    if not changes:
        return
    yield from _legend(changes, pen)
    yield ""
    impacts = {unit_address(unit.unit): unit for unit in plan.impact.units}
    meanwhile: dict[str, list[str]] = {}
    for detour in plan.impact.detours:
        who = unit_address(detour.stand_in).partition(".")[2] if detour.stand_in else "nobody"
        meanwhile.setdefault(unit_address(detour.unit), []).append(f"{detour.purpose} by {who}")
    for change in changes:
        yield from _block(change, impacts.get(change.address), meanwhile.get(change.address, ()), pen)
        yield ""


def _legend(changes: Iterable[Change], pen: _Pen) -> Iterator[str]:
    used = {SYMBOLS[change.action] for change in changes}
    yield "kloros-infra will do the following, marked by these symbols:"
    for symbol, meaning in LEGEND.items():
        if symbol in used:
            yield f"{pen.symbol(symbol)} {meaning}"


def _block(change: Change, impact: UnitImpact | None, meanwhile: Iterable[str], pen: _Pen) -> Iterator[str]:
    yield pen.bold(f"  # {change.address} {HEADERS[change.action]}")
    yield f"  # (because {printable(change.reason)})"
    separator = "; " if change.unit_action == DEFERRED else ", "
    action = separator.join((*_unit_action(change), *_costs(change, impact)))
    if action:
        yield f"  # (unit: {action})"
    if change.exposure is not None:
        yield f"  # (exposure: {_exposure(change.exposure)})"
    placement = placement_change(change.keys)
    if placement:
        yield f"  # (placement: {placement})"
    served = ", ".join(meanwhile)
    if served:
        yield f"  # (served meanwhile: {served})"
    yield f"{pen.symbol(SYMBOLS[change.action])} {change.address}"
    # Old and new must line up for the eye; names are ours, so they are as long as they are.
    longest = max((len(key.key) for key in change.keys), default=0)
    for key in change.keys:
        yield f"    {_key_line(key, longest, pen)}"
    if change.hidden:
        kind = "key" if change.action is Action.CREATE else "unchanged key"
        yield f"        # ({amount_text(change.hidden, kind)} hidden)"


def _exposure(change: ExposureChange) -> str:
    before = "" if change.before is None else f"{change.before} -> "
    limit = "" if change.limit is None else f" of at most {change.limit}"
    return f"{before}{change.after}{limit}, as systemd scores services"


def _key_line(key: KeyChange, longest: int, pen: _Pen) -> str:
    name = f"{key.key}:".ljust(longest + 1)
    room = pen.width - len(name) - 10
    if key.before is None or key.after is None:
        symbol = "+" if key.before is None else "-"
        return f"{pen.symbol(symbol)} {name} {pen.value(key.after or key.before or '', room)}"
    half = (room - 4) // 2
    return f"{pen.symbol('~')} {name} {pen.value(key.before, half)} -> {pen.value(key.after, half)}"


def _unit_action(change: Change) -> Iterator[str]:
    """Name what happens to the unit, if it is one."""
    match change.action, change.unit_action:
        case Action.CREATE, "start":
            yield "create and start"
        case Action.CREATE, "" if change.address.startswith("instance."):
            yield "create, not started now"
        case Action.DELETE, "stop":
            yield "stop and remove"
        case _, action if action == DEFERRED:
            yield f"NOT restarted: {f'on_change: {change.on_change}' if change.on_change else 'it is masked'}"
            yield "runs by its former settings until it next starts"
        case _, action if action == NO_ACTION:
            yield "nothing, it goes on running"
            if change.ignored:
                yield f"heeds no {' or '.join(key.partition('.')[2] for key in change.ignored)}"
        case _, action if action in (RELOAD, CHANGE_LIVE):
            yield f"{action}, it goes on running"
        case _, action if action:
            yield action


def _costs(change: Change, impact: UnitImpact | None) -> Iterator[str]:
    if impact is None:
        return
    if impact.seconds_down:
        yield f"about {seconds_text(impact.seconds_down)} down"
    elif change.seconds:
        yield f"ready in about {seconds_text(change.seconds)}"
    if impact.read_bytes:
        yield f"{size_text(impact.read_bytes)} from disk"
    if impact.is_interrupted and change.address.startswith("instance."):
        known = impact.requests
        yield "requests in flight unknown" if known is None else f"{amount_text(known, 'request')} in flight"


def _memory(plan: Plan) -> Iterator[str]:
    """Show the cards whose use changes, or that would hold more than they can."""
    cards = [card for card in plan.impact.cards if card.is_over or _differs(card)]
    if not cards:
        return
    longest = max(len(card.card) for card in cards)
    yield "GPU memory:"
    for card in cards:
        yield f"  {card.card.ljust(longest)}  {memory_text(card)}"
    yield ""


def _drift(found: Iterable[Drift], pen: _Pen) -> Iterator[str]:
    """Show what is different on the machine and stays so."""
    lines = [f"{pen.symbol('~')} {one.address} {printable(one.what)}" for one in found]
    if lines:
        yield "On the machine, and left as it is:"
        yield from lines
        yield ""


def _deferred(found: Iterable[Deferral], pen: _Pen) -> Iterator[str]:
    """Show what goes on running by the settings of an earlier plan."""
    lines = [
        f"{pen.symbol('~')} {one.address} runs by its former settings until it next starts ({one.reason})"
        for one in found
    ]
    if lines:
        yield "Not restarted, as on_change asks:"
        yield from lines
        yield ""


def _differs(card: CardMemory) -> bool:
    """Say whether the use of a card differs as far as it is shown."""
    return card.before_bytes is None or size_text(card.before_bytes) != size_text(card.after_bytes)


def memory_text(card: CardMemory) -> str:
    """Write what a card holds before and after."""
    before = "unknown" if card.before_bytes is None else size_text(card.before_bytes)
    over = " (more than it holds)" if card.is_over else ""
    return f"{before} -> {size_text(card.after_bytes)} of {size_text(card.capacity_bytes)}{over}"


def _warning(warning: Diagnostic) -> Iterator[str]:
    yield f"{warning.severity.capitalize()} {warning.code}: {warning.summary}"
    yield f"  {warning.detail}"
    yield f"  {warning.hint}"
    yield ""
