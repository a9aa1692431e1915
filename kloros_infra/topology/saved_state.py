"""The memory as JSON, for a file below /run; one that is damaged or of another version is as none."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kloros_infra.topology.state import TopologyState

VERSION: Final = 1


class _Saved(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1]
    state: TopologyState


def state_text(state: TopologyState) -> str:
    """Write the memory down, on one line."""
    return _Saved(version=VERSION, state=state).model_dump_json() + "\n"


def read_state(text: str | bytes) -> TopologyState:
    """Read what `state_text` wrote; anything else gives a fresh memory."""
    try:
        return _Saved.model_validate_json(text).state
    except ValidationError:
        return TopologyState()
