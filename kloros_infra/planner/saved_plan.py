"""A plan as a file: everything that apply needs to carry out exactly what was shown, and to see that it still may.

The file holds the texts of generated files, so it is as secret as they are. Steps are told apart by the name of their
class; a file of another format is refused, never guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.plan import Change, KeyChange, Plan, Step
from kloros_infra.planner.fingerprint import Fingerprint, moved
from kloros_infra.planner.request import PlanRequest

FORMAT = "kloros-infra-plan"
VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan, what it was made from, what was asked for, and by which version of this program."""

    plan: Plan
    fingerprint: Fingerprint
    request: PlanRequest
    tool_version: str


@dataclass(frozen=True, slots=True)
class _Rest:
    """Everything but the steps, of which each needs its own type beside it."""

    plan: Plan
    fingerprint: Fingerprint
    request: PlanRequest
    tool_version: str


def save_plan(saved: SavedPlan) -> str:
    """Write a plan as JSON; raise ProblemsError when a file that it keeps is not text."""
    plan = replace(saved.plan, steps=(), changes=tuple(map(_told, saved.plan.changes)))
    rest = _Rest(plan, saved.fingerprint, saved.request, saved.tool_version)
    document = {
        "format": FORMAT,
        "version": VERSION,
        **_rest().dump_python(rest, mode="json"),
        "steps": [_dumped(step) for step in saved.plan.steps],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProblemsError([_unusable("A file that stays as it is on the machine is not UTF-8 text.")]) from error
    return text + "\n"


def load_plan(text: str) -> tuple[SavedPlan | None, Problems]:
    """Read a saved plan; None and the reason when it is none that this version can carry out."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None, (_unusable("It is not JSON."),)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None, (_unusable("It was not written by `kloros-infra plan --out`."),)
    if document.get("version") != VERSION:
        found = document.get("version")
        return None, (_unusable(f"It has version {found!r} of the format, and this program reads {VERSION}."),)
    try:
        rest = _rest().validate_python(document)
        steps = tuple(map(_loaded, document.get("steps", ())))
    except (ValidationError, KeyError, TypeError, AttributeError):
        return None, (_unusable("It was altered or cut off."),)
    return SavedPlan(replace(rest.plan, steps=steps), rest.fingerprint, rest.request, rest.tool_version), ()


def staleness(saved: SavedPlan, now: Fingerprint) -> Problems:
    """Say what has moved since a plan was saved; nothing when it still holds."""
    what = moved(saved.fingerprint, now)
    if not what:
        return ()
    return (
        Diagnostic(
            code="KI539",
            summary="Saved plan is stale",
            detail=f"Since it was made, something else changed: {', '.join(what)}.",
            hint="Make a new plan with `kloros-infra plan --out FILE`, look at it, and apply that one.",
        ),
    )


def _unusable(reason: str) -> Diagnostic:
    return Diagnostic(
        code="KI538",
        summary="Saved plan cannot be used",
        detail=reason,
        hint="Make it again with `kloros-infra plan --out FILE`.",
    )


def _told(change: Change) -> Change:
    """Keep what a change says to people; bytes of a file on the machine that are no text are written by their codes."""
    keys = tuple(KeyChange(_plain(key.key) or "", _plain(key.before), _plain(key.after)) for key in change.keys)
    return replace(change, keys=keys)


def _plain(text: str | None) -> str | None:
    return None if text is None else text.encode(errors="backslashreplace").decode()


def _dumped(step: Step) -> dict[str, Any]:
    dumped: dict[str, Any] = _step_type(type(step).__name__).dump_python(step, mode="json")
    return {"step": type(step).__name__, **dumped}


def _loaded(document: Mapping[str, Any]) -> Step:
    step: Step = _step_type(document["step"]).validate_python(document)
    return step


@cache
def _step_type(name: str) -> TypeAdapter[Any]:
    """Raise KeyError for a name that is no step's."""
    return TypeAdapter({kind.__name__: kind for kind in get_args(Step)}[name])


@cache
def _rest() -> TypeAdapter[_Rest]:
    return TypeAdapter(_Rest)
