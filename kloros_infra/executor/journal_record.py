"""Steps as short texts, for the journal and for people."""

from __future__ import annotations

from dataclasses import fields
from typing import assert_never

from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import (
    AwaitReady,
    CheckRunning,
    FlipCurrent,
    MarkLastGood,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveGeneration,
    RemoveWeights,
    ResetFailed,
    RestartUnit,
    StageGeneration,
    StartUnit,
    Step,
    StopUnit,
    VerifyGeneration,
    WriteArtifact,
)

PLAIN = (str, int, float)
"""Fields of a step that say which one it is; texts of files and whole records stay out of the journal."""


def record(step: Step) -> dict[str, object]:
    """Give a step as the journal keeps it: its kind, what it does in words, and what it is about."""
    values = {field.name: getattr(step, field.name) for field in fields(step)}
    about = {name: value for name, value in values.items() if value is None or isinstance(value, PLAIN)}
    return {"kind": type(step).__name__, "text": describe(step), **about}


def describe(step: Step) -> str:  # noqa: C901, PLR0911, PLR0912 - one line per kind of step
    """Say what a step does in a few words; never what a file contains."""
    match step:
        case PlaceWeights():
            return f"place weights {step.key}"
        case WriteArtifact():
            return f"write {step.path}"
        case RemoveArtifact():
            return f"remove {step.path}"
        case StageGeneration(number=number):
            return f"stage generation {number}"
        case VerifyGeneration(number=number):
            return f"verify generation {number}"
        case FlipCurrent(number=number):
            return "leave the current generation" if number is None else f"switch to generation {number}"
        case MarkLastGood(number=number):
            return "mark no generation as good" if number is None else f"mark generation {number} as good"
        case RemoveGeneration(number=number):
            return f"remove generation {number}"
        case ResetFailed(units=units):
            return f"forget failures of {', '.join(units)}"
        case ReloadManager():
            return "reload the service manager"
        case StartUnit():
            return f"start {step.unit}"
        case RestartUnit():
            return f"restart {step.unit}"
        case StopUnit():
            return f"stop {step.unit}"
        case AwaitReady():
            return f"wait for {step.unit}"
        case CheckRunning(units=units):
            return f"see that what was started still runs ({len(units)})"
        case RecordInstalled():
            return "record what is installed"
        case RemoveWeights():
            return f"remove weights {step.destination}"
        case _ as never:
            assert_never(never)
