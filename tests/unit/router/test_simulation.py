"""The core against simulated machines: ten thousand scenarios from seeds, and those that hypothesis thinks of.

Each failure is made shorter and says its seed; `a_scenario(seed)` brings it back.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kloros_infra.router.core import Core
from kloros_infra.router.effects import Allocated, Effect, Refuse, Send, StartUnit
from kloros_infra.router.events import Asked, CardsStand, Event
from tests.unit.router.scenarios import a_scenario, a_scenario_of, shrunk
from tests.unit.router.simulated import Machine
from tests.unit.router.simulated_steps import Ask, Scenario
from tests.unit.router.simulated_world import BrokenPromiseError

CHUNK = 500
CHUNKS = 20


def failure(scenario: Scenario, kind: type[Core] = Core) -> BrokenPromiseError | None:
    """Say what a scenario breaks, if anything."""
    try:
        Machine(scenario, kind).run()
    except BrokenPromiseError as broken:
        return broken
    return None


def report(scenario: Scenario) -> str:
    """Write the shortest scenario that fails as this one does, and what happened in it."""
    least = shrunk(scenario, lambda shorter: failure(shorter) is not None)
    machine = Machine(least)
    with pytest.raises(BrokenPromiseError) as broken:
        machine.run()
    return f"{broken.value}\n{least}\n{machine.told()}"


@pytest.mark.untraced
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_nothing_is_lost_and_nothing_breaks_its_promise(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        scenario = a_scenario(seed)
        assert failure(scenario) is None, report(scenario)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), steps=st.lists(st.integers(0, 2**32), min_size=1, max_size=25))
def test_nor_in_scenarios_that_hypothesis_thinks_of(seed: int, steps: list[int]) -> None:
    scenario = a_scenario_of(seed, steps)
    assert failure(scenario) is None, report(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_the_same_scenario_goes_the_same_way(seed: int) -> None:
    first, second = Machine(a_scenario(seed)), Machine(a_scenario(seed))
    first.run()
    second.run()
    assert first.told() == second.told()
    assert first.log


class Forgetful(Core):
    """Loses every refusal."""

    def on(self, event: Event, now: float) -> list[Effect]:
        return [effect for effect in super().on(event, now) if not isinstance(effect, Refuse)]


class Stammering(Core):
    """Sends twice."""

    def on(self, event: Event, now: float) -> list[Effect]:
        effects = super().on(event, now)
        return [*effects, *(effect for effect in effects if isinstance(effect, Send))]


class Greedy(Core):
    """Starts whatever is asked for, whether it fits or not."""

    def on(self, event: Event, now: float) -> list[Effect]:
        effects = super().on(event, now)
        started = [StartUnit(name) for name in sorted(self._fleet.locals)] if isinstance(event, Asked) else []
        return [*effects, *started]


class Leaking(Core):
    """Never gives an allocation back."""

    def on(self, event: Event, now: float) -> list[Effect]:
        effects = super().on(event, now)
        return [e for e in effects if not isinstance(e, Allocated) or e.change == "created"]


class Heedless(Core):
    """Takes every card for one that may be used."""

    def on(self, event: Event, now: float) -> list[Effect]:
        return super().on(CardsStand(event.profile) if isinstance(event, CardsStand) else event, now)


@pytest.mark.parametrize("kind", [Forgetful, Stammering, Greedy, Leaking, Heedless])
def test_the_simulation_notices_a_core_that_does_wrong_and_finds_the_step(kind: type[Core]) -> None:
    failing = next(s for s in map(a_scenario, range(200)) if s.steps and failure(s, kind) is not None)
    least = shrunk(failing, lambda shorter: failure(shorter, kind) is not None)
    assert len(least.steps) <= 2
    assert any(isinstance(step, Ask) for _, step in least.steps)
    assert f"seed {least.seed}" in str(least)
