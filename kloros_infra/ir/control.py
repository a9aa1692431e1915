"""What the router's control socket says of instances: written by the router, read by commands."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from kloros_infra.ir.stop_cause import StopCause

RUNNING = "running"
FAILED = "failed"
STOPPED = "stopped"
LEAVING = frozenset({"draining", "stopping"})


class Runtime(BaseModel):
    """One instance (design document, section 5.3), whose name is called its profile there.

    `stops_in_seconds` is None where it is not stopped for being idle, or not now; `reason` and `last_lines` say why it
    failed or cannot be started. `stopped_for` is None where it runs, and where somebody else has stopped it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    profile: str
    status: str
    pid: int | None
    port: int
    uptime_seconds: int
    last_request_at: str | None
    model_id: str
    gpu_profile: str
    unit: str
    active_requests: int
    queued_requests: int
    stops_in_seconds: int | None
    restarts: int
    reason: str
    last_lines: tuple[str, ...]
    stopped_for: StopCause | None = None


class Runtimes(BaseModel):
    """All instances of the active profile, and those of others that still run."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gpu_profile: str
    runtimes: tuple[Runtime, ...]


class Followed(BaseModel):
    """What the router goes by, once it has looked at its files."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    profile: str
