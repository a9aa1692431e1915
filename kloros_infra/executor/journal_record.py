"""Steps as short texts, for the journal and for people."""

from __future__ import annotations

from typing import assert_never

from kloros_infra.ir.plan import (
    AwaitReady,
    PlaceWeights,
    RecordInstalled,
    ReloadManager,
    RemoveArtifact,
    RemoveWeights,
    RestartUnit,
    StartUnit,
    Step,
    StopUnit,
    WriteArtifact,
)


def describe(step: Step) -> str:  # noqa: C901, PLR0911 - one line per kind of step
    """Say what a step does in a few words; never what a file contains."""
    match step:
        case PlaceWeights():
            return f"place weights {step.key}"
        case WriteArtifact():
            return f"write {step.path}"
        case RemoveArtifact():
            return f"remove {step.path}"
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
        case RecordInstalled():
            return "record what is installed"
        case RemoveWeights():
            return f"remove weights {step.destination}"
        case _ as never:
            assert_never(never)
