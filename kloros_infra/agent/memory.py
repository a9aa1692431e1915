"""The memory between two reconciles, as a file of two lines: whose it is, and what the decision remembers.

Its times are of a clock that begins anew with each boot: the memory of another boot is as none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kloros_infra.topology.saved_state import read_state, state_text
from kloros_infra.topology.state import TopologyState

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What one reconcile leaves to the next.

    `followed` is the profile whose target was started last: where it is not the active one, a reconcile was killed in
    between, and the next one makes up for it.
    """

    state: TopologyState = field(default_factory=TopologyState)
    since_epoch_s: float | None = None
    followed: str | None = None


class _Header(BaseModel):
    """The first line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version: Literal[1]
    boot_id: str
    since_epoch_s: float | None
    followed: str | None


def memory_text(memory: Memory, boot_id: str) -> str:
    """Write the memory down."""
    header = _Header(version=VERSION, boot_id=boot_id, since_epoch_s=memory.since_epoch_s, followed=memory.followed)
    return f"{header.model_dump_json()}\n{state_text(memory.state)}"


def read_memory(text: str | None, boot_id: str) -> Memory:
    """Read what `memory_text` wrote in this boot; anything else gives a fresh memory."""
    first, _, rest = (text or "").partition("\n")
    try:
        header = _Header.model_validate_json(first)
    except ValidationError:
        return Memory()
    if header.boot_id != boot_id:
        return Memory()
    return Memory(read_state(rest), header.since_epoch_s, header.followed)
