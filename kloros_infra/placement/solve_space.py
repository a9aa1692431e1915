"""What a search is given and what it finds: a model's costs, the devices, and the plan with what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kloros_infra.ir.catalog import Preference
from kloros_infra.placement.costs import LayerCosts, ModelCosts
from kloros_infra.placement.devices import Device
from kloros_infra.placement.integer_program import NODES
from kloros_infra.placement.memory import Role, compute_bytes
from kloros_infra.placement.speed import Assignment
from kloros_infra.placement.stage_times import StageTimes


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to search, the same on every machine.

    In steps for runs, and in nodes for programs; not every order of more than so many cards has a program of its own.
    """

    steps: int = 20_000
    nodes: int = NODES
    cards_in_all_orders: int = 3


@dataclass(frozen=True)
class Space:
    """What is to be placed on what; `beside_bytes` go to the head's device. The CPU is the last device."""

    costs: ModelCosts
    devices: tuple[Device, ...]
    preference: Preference
    beside_bytes: int = 0
    limits: Limits = Limits()

    @property
    def cards(self) -> tuple[Device, ...]:
        return self.devices[:-1]

    @property
    def cpu(self) -> Device:
        return self.devices[-1]

    @property
    def slots(self) -> int:
        """Count the layers and the head."""
        return len(self.costs.layers)

    @cached_property
    def by_name(self) -> dict[str, Device]:
        return {device.name: device for device in self.devices}

    @cached_property
    def _roles(self) -> dict[Role, int]:
        return {}

    def role_bytes(self, role: Role) -> int:
        """Say what a device's role takes beside its layers."""
        if role not in self._roles:
            beside = self.beside_bytes if role.holds_head else 0
            self._roles[role] = compute_bytes(self.costs.header, self.costs.work, role) + beside
        return self._roles[role]

    def core_s(self, times: StageTimes, layer: LayerCosts, device: Device) -> float:
        """Weigh a layer without its experts."""
        return self.preference.seconds(times.prefill_core_s(layer, device), times.decode_core_s(layer, device))

    def experts_s(self, times: StageTimes, layer: LayerCosts, device: Device) -> float:
        """Weigh the experts of a layer."""
        return self.preference.seconds(times.prefill_experts_s(layer, device), times.decode_experts_s(layer, device))

    def hop_s(self, times: StageTimes, one: Device, other: Device) -> float:
        """Weigh handing work on."""
        return self.preference.seconds(times.prefill_hop_s(one, other), times.decode_hop_s(one, other))


@dataclass(frozen=True, slots=True)
class Found:
    """A plan, the weighed seconds that a token costs, and how much less a better one could cost, as a share."""

    assignment: Assignment
    seconds: float
    gap: float = 0.0
