"""What a llama-server says that a model takes on each device, before it loads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """One device, by llama.cpp's name, in whole MiB rounded down; None of what it has where that is not said.

    `description` is a card's name, or the endpoint of a server of another host.
    """

    device: str
    weights_mib: int
    state_mib: int
    compute_mib: int
    total_mib: int | None = None
    free_mib: int | None = None
    description: str | None = None

    @property
    def used_mib(self) -> int:
        return self.weights_mib + self.state_mib + self.compute_mib
