"""What a service manager says of a unit in one word; apart from `ir.observed`, of which the router needs no more."""

from __future__ import annotations

from enum import StrEnum


class ActiveState(StrEnum):
    """systemd's ActiveState (org.freedesktop.systemd1(5)), which the embedded supervisor speaks too."""

    ACTIVE = "active"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"
    RELOADING = "reloading"
    REFRESHING = "refreshing"
    MAINTENANCE = "maintenance"

    @classmethod
    def _missing_(cls, value: object) -> ActiveState:  # noqa: ARG003 - enum asks with it (enum.Enum._missing_)
        """Take a word of a later systemd for a unit that runs: nothing is started or given away beside it."""
        return cls.ACTIVE
