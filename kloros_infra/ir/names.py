"""Names: parsed once, never split again downstream."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from itertools import count

# One spelling for ids, names, GPUs and hosts: it needs no escaping in a unit name, a path, a URL or an env file.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
# A profile has no hyphen; see `model_of`.
PROFILE_PATTERN = r"^[a-z0-9][a-z0-9_]{0,31}$"
MOST_CHARACTERS = 64

BUS_UNIT = "kloros-bus.service"
ROUTER_UNIT = "kloros-router.service"
PROFILE_UNIT = "kloros-profile.service"
LLM_TARGET = "kloros-llm.target"
AGENT_UNIT = "kloros-gpu.service"
"""The resident agent that follows the cards."""
NODES_UNIT = "kloros-gpu-nodes.service"
"""Has the driver make its device nodes, which our sandboxed services cannot."""
RECONCILE_UNIT = "kloros-reconcile.service"
RECONCILE_PATH = "kloros-reconcile.path"
"""Where no agent runs, the flag file starts a reconcile."""
DIRTY_UNIT = "kloros-dirty.service"
DIRTY_PATH = "kloros-dirty.path"
DIRTY_TIMER = "kloros-dirty.timer"
"""Raise the flag: when a lockout changes, and every minute, in case that something was missed."""
FOLLOWERS = (DIRTY_PATH, DIRTY_TIMER, RECONCILE_PATH, AGENT_UNIT)
"""What follows the cards for as long as anything of ours runs, in start order."""
PASSING = frozenset({NODES_UNIT, RECONCILE_UNIT, DIRTY_UNIT})
"""What ends a moment after it was started: it reads its unit file each time."""
_INSTANCES, _SERVICE = "llama@", ".service"


@dataclass(frozen=True, slots=True, order=True)
class InstanceId:
    """One model under one profile; systemd's instance name."""

    model: str
    profile: str

    def __str__(self) -> str:
        return f"{self.model}-{self.profile}"

    @property
    def unit(self) -> str:
        return instance_unit(str(self))


def instance_unit(instance: str) -> str:
    """Name the unit of an instance."""
    return f"{_INSTANCES}{instance}{_SERVICE}"


def is_instance(unit: str) -> bool:
    """Say whether a unit is an instance's."""
    return unit.startswith(_INSTANCES)


def instance_of(unit: str) -> str:
    """Give the instance's name that a unit has; any other service keeps its own, without the ending."""
    return unit.removeprefix(_INSTANCES).removesuffix(_SERVICE)


def model_of(instance: str) -> str:
    """Give the model of an instance's name: no profile's name has a hyphen, so the last one is the joint."""
    return instance.rpartition("-")[0]


def as_name(text: str) -> str:
    """Make a name of models.yaml from any text; empty where no letter or digit is in it."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")[:MOST_CHARACTERS].rstrip("-._")


def unused(name: str, used: Container[str]) -> str:
    """Give a name, or its first numbered form that is not taken."""
    if name not in used:
        return name
    numbered = (f"{name[: MOST_CHARACTERS - 4]}-{number}" for number in count(2))
    return next(one for one in numbered if one not in used)


def profile_target(profile: str) -> str:
    """Name the target that is up while a profile is active."""
    return f"kloros-profile-{profile}.target"
