"""Whatever happens in whatever order, a service never has two lives at once and always comes to rest when stopped."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.supervisor.command_line import Command
from kloros_infra.supervisor.service import (
    EmptyGroup,
    Event,
    Exited,
    GroupEmptied,
    Phase,
    Role,
    ServiceState,
    Spawn,
    Spawned,
    SpawnFailed,
    StartAsked,
    StopAsked,
    Tick,
    step,
)
from kloros_infra.supervisor.service_spec import Restart, ServiceKind, ServiceSpec

COMMANDS = st.lists(st.builds(Command, st.just(("/bin/x",)), st.booleans()), max_size=2).map(tuple)
ONE = st.lists(st.builds(Command, st.just(("/bin/x",)), st.booleans()), min_size=1, max_size=1).map(tuple)
SPECS = st.builds(
    ServiceSpec,
    unit=st.just("x.service"),
    start=ONE,
    start_pre=COMMANDS,
    start_post=COMMANDS,
    kind=st.sampled_from(ServiceKind),
    remain_after_exit=st.booleans(),
    restart=st.sampled_from(Restart),
    timeout_start_s=st.sampled_from([None, 5.0]),
    timeout_stop_s=st.just(3.0),
)
DOWN = (Phase.DEAD, Phase.FAILED, Phase.EXITED, Phase.AUTO_RESTART)
HAPPENINGS = st.lists(
    st.sampled_from(["start", "stop", "exit 0", "exit 1", "killed", "later", "emptied", "unspawnable"])
)


class World:
    """A pretend machine: knows which processes live, and carries effects out."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self.state = ServiceState()
        self.now = 0.0
        self.living: dict[int, Role] = {}
        self.is_emptying = False
        self.can_spawn = True
        self._pid = 100

    def happen(self, event: Event) -> None:
        self.state, effects = step(self.spec, self.state, event, now=self.now)
        for effect in effects:
            match effect:
                case Spawn(role):
                    assert role not in self.living.values(), "a second process in the same role"
                    assert not self.is_emptying
                    self._spawn(role)
                case EmptyGroup():
                    assert not self.is_emptying
                    self.is_emptying = True
        self.check()

    def _spawn(self, role: Role) -> None:
        if not self.can_spawn:
            self.happen(SpawnFailed(203))
            return
        self._pid += 1
        self.living[self._pid] = role
        self.happen(Spawned(self._pid))

    def end_one(self, code: int) -> None:
        if self.living:
            pid = max(self.living)
            del self.living[pid]
            self.happen(Exited(pid, code))

    def empty(self) -> None:
        if self.is_emptying:
            while self.living:
                self.end_one(-9)
            self.is_emptying = False
            self.happen(GroupEmptied())

    def pass_time(self) -> None:
        if self.state.deadline is not None:
            self.now = max(self.now, self.state.deadline)
            self.happen(Tick())

    def check(self) -> None:
        assert self.is_emptying == (self.state.phase is Phase.FINAL_SIGKILL)
        if self.state.phase in DOWN:
            assert not self.living
        assert {self.state.main_pid, self.state.control_pid} - {0} <= self.living.keys()
        assert (self.state.phase is not Phase.AUTO_RESTART) or self.state.deadline is not None


def play(world: World, happening: str) -> None:
    match happening:
        case "start":
            world.happen(StartAsked())
        case "stop":
            world.happen(StopAsked())
        case "exit 0":
            world.end_one(0)
        case "exit 1":
            world.end_one(1)
        case "killed":
            world.end_one(-9)
        case "later":
            world.pass_time()
        case "emptied":
            world.empty()
        case "unspawnable":
            world.can_spawn = not world.can_spawn


@settings(max_examples=300, deadline=None)
@given(SPECS, HAPPENINGS)
def test_a_stopped_service_comes_to_rest(spec: ServiceSpec, happenings: list[str]) -> None:
    world = World(spec)
    for happening in happenings:
        play(world, happening)
    world.happen(StopAsked())
    world.pass_time()
    world.empty()
    assert world.state.phase in (Phase.DEAD, Phase.FAILED)
    assert world.state.deadline is None
    assert not world.living


@settings(max_examples=300, deadline=None)
@given(SPECS, HAPPENINGS)
def test_a_service_can_always_be_started_again(spec: ServiceSpec, happenings: list[str]) -> None:
    world = World(spec)
    for happening in happenings:
        play(world, happening)
    world.happen(StopAsked())
    world.pass_time()
    world.empty()
    world.can_spawn = True
    world.happen(StartAsked())
    assert world.living
