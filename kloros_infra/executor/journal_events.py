"""Lines of the journal of applies → events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kloros_infra.ir.event import Event

Line = Mapping[str, object]


def journal_events(applies: Mapping[int, Sequence[Line]]) -> Iterator[Event]:
    """Tell each apply by its lines: how it began, each step that was done or undone, and how it ended.

    An apply that has no end was killed, or is still at work: its last step is told as begun.
    """
    for number, lines in applies.items():
        source = f"apply {number}"
        for line in lines:
            text = _text(line)
            if text:
                yield Event(str(line.get("at", "")), source, text)
        begun = _open_step(lines)
        if begun is not None:
            yield Event(str(begun.get("at", "")), source, f"began to {_step(begun)}, and has not ended")


def _text(line: Line) -> str:
    match line.get("event"):
        case "begin":
            return f"began: from {_generation(line.get('previous'))} to {_generation(line.get('goal'))}"
        case "after":
            return _step(line)
        case "undone":
            return f"undone: {_step(line)}"
        case "finish":
            return f"ended: {line.get('outcome', '')}"
        case _:
            return ""


def _open_step(lines: Iterable[Line]) -> Line | None:
    """Give the step that was begun last, unless it or the whole apply was ended."""
    begun: Line | None = None
    for line in lines:
        match line.get("event"):
            case "before":
                begun = line
            case "after" | "undone" | "finish":
                begun = None
            case _:
                pass
    return begun


def _step(line: Line) -> str:
    """Name a step; before the second version of the journal it was a text."""
    step = line.get("step", "")
    return str(step.get("text", "")) if isinstance(step, Mapping) else str(step)


def _generation(number: object) -> str:
    return "no generation" if number is None else f"generation {number}"
