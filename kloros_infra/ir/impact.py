"""What carrying a plan out costs meanwhile: who is down, what is read, what the GPUs hold, who stands in."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.names import is_instance


@dataclass(frozen=True, slots=True)
class UnitImpact:
    """One unit that is started, restarted or stopped.

    `seconds_down` counts from the moment in which it, or the instance that it follows, stops answering until it
    answers again; it is 0 for what did not answer before and for what is gone for good. `requests` is how many are
    being answered now: None when the server could not be asked.
    """

    unit: str
    seconds_down: float = 0.0
    read_bytes: int = 0
    requests: int | None = None
    is_interrupted: bool = False
    """Whether it runs now and will be stopped, so that requests are cut or have to wait."""


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Predicted bytes on one card; `before_bytes` is None when no service manager could be asked what runs."""

    card: str
    before_bytes: int | None
    after_bytes: int
    capacity_bytes: int

    @property
    def is_over(self) -> bool:
        return self.after_bytes > self.capacity_bytes


@dataclass(frozen=True, slots=True)
class Detour:
    """A purpose whose first choice is down for a while, and the unit that serves it meanwhile, if any."""

    purpose: str
    unit: str
    stand_in: str | None


@dataclass(frozen=True, slots=True)
class Impact:
    """All of it; `reduced_s` is about how long anything that answered before does not."""

    units: tuple[UnitImpact, ...] = ()
    cards: tuple[CardMemory, ...] = ()
    detours: tuple[Detour, ...] = ()
    reduced_s: float = 0.0

    @property
    def read_bytes(self) -> int:
        return sum(unit.read_bytes for unit in self.units)

    @property
    def without_stand_in(self) -> tuple[str, ...]:
        """Name the instances that are down for a while and that nothing stands in for in every purpose."""
        stand_ins: dict[str, list[str | None]] = {}
        for detour in self.detours:
            stand_ins.setdefault(detour.unit, []).append(detour.stand_in)
        down = (one.unit for one in self.units if one.seconds_down and is_instance(one.unit))
        return tuple(unit for unit in down if None in stand_ins.get(unit, [None]))
