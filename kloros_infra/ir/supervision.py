"""What the embedded supervisor is asked and what it answers: one JSON object a line on its socket."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.observed import UnitState

SOCKET_NAME = "supervisor.sock"
MAX_LINE_BYTES = 64 * 1024

# systemd.unit(5): the characters of a unit name; no slash, so a name never leaves its folder.
UnitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_@\\-][A-Za-z0-9:_.@\\-]{0,240}\.[a-z]{3,9}$")]


class Operation(StrEnum):
    """What can be asked."""

    PING = "ping"
    RELOAD = "reload"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RESET_FAILED = "reset-failed"
    STATES = "states"
    SHUTDOWN = "shutdown"


class Request(BaseModel):
    """One question; the answer comes when the job is done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Operation
    units: tuple[UnitName, ...] = ()


class Reply(BaseModel):
    """The answer: done when there are no problems; `pid` is the supervisor's own."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int
    problems: tuple[Diagnostic, ...] = ()
    states: tuple[UnitState, ...] = ()


BEGINNING = "kloros-infra: begins as process "
"""What stands in a unit's log before the first line of each process of it."""


def beginning_of(pid: int) -> str:
    """Give the line in a unit's log after which a process writes."""
    return f"{BEGINNING}{pid}"


def log_file(unit: str) -> str:
    """Name the file in the log folder that holds a unit's output."""
    return f"{unit}.log"
