"""The small ports of apply: weights, health, ports, journal, display."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.generation import Interrupted
from kloros_infra.ir.observed import Listener
from kloros_infra.ir.place_weights import PlaceWeights
from kloros_infra.ir.plan import AwaitReady
from kloros_infra.ir.rpc_server import RpcState
from tests.fakes.generations import ignore


class FakeWeightsStore:
    """A store of store paths and checksums; keys in `unreachable` have no source."""

    def __init__(self, watch: Callable[[str], None] = ignore) -> None:
        self.stored: dict[str, str] = {}
        self.unreachable: set[str] = set()
        self._watch = watch

    def verified(self) -> Mapping[str, str]:
        return dict(self.stored)

    def place(self, step: PlaceWeights, on_progress: Callable[[int, int], None]) -> None:
        self._watch(f"before place {step.key}")
        on_progress(step.size_bytes, step.size_bytes)
        self.stored[step.destination] = step.sha256
        self._watch(f"after place {step.key}")

    def is_reachable(self, step: PlaceWeights) -> bool:
        return step.key not in self.unreachable

    def remove(self, destination: str) -> None:
        self._watch(f"before empty {destination}")
        self.stored.pop(destination, None)
        self._watch(f"after empty {destination}")


class FakeHealth:
    """Every server is ready when it was asked `asks_before_ready` times, but those in `silent` never."""

    def __init__(self, asks_before_ready: int = 0) -> None:
        self.silent: set[str] = set()
        self.asks_before_ready = asks_before_ready
        self.asks: dict[str, int] = {}

    def is_ready(self, url: str, timeout_s: float) -> bool:
        self.asks[url] = self.asks.get(url, 0) + 1
        return url not in self.silent and self.asks[url] > self.asks_before_ready


class FakeRpcServers:
    """Servers whose states follow one another; the last one stays, and those without any are free."""

    def __init__(self, states: Mapping[str, Sequence[RpcState]] = MappingProxyType({})) -> None:
        self.states = {endpoint: list(each) for endpoint, each in states.items()}
        self.asked: list[str] = []

    def state(self, endpoint: str, timeout_s: float) -> RpcState:
        self.asked.append(endpoint)
        states = self.states.get(endpoint, [RpcState.FREE])
        return states.pop(0) if len(states) > 1 else states[0]


class FakePorts:
    """Listeners by port."""

    def __init__(self) -> None:
        self.held: dict[int, Listener] = {}

    def listeners(self, port: int) -> tuple[Listener, ...]:
        return (self.held[port],) if port in self.held else ()


class FakeJournal:
    """A journal in a list."""

    def __init__(self, watch: Callable[[str], None] = ignore) -> None:
        self.lines: list[tuple[str, str]] = []
        self.began: Mapping[str, object] = {}
        self._watch = watch

    def begin(self, apply: Mapping[str, object]) -> None:
        self._watch("journal begin")
        self.lines.append(("begin", ""))
        self.began = apply

    def before(self, index: int, step: Mapping[str, object]) -> None:
        self._watch(f"journal before {step['text']}")
        self.lines.append(("before", str(step["text"])))

    def after(self, index: int, step: Mapping[str, object]) -> None:
        self._watch(f"journal after {step['text']}")
        self.lines.append(("after", str(step["text"])))

    def undone(self, index: int, step: Mapping[str, object]) -> None:
        self.lines.append(("undone", str(step["text"])))

    def finish(self, outcome: str) -> None:
        self.lines.append(("finish", outcome))

    def unfinished(self) -> Interrupted | None:
        return Interrupted(self.lines[-1][1]) if self.lines and self.lines[-1][0] != "finish" else None


class FakeStagedCheck:
    """Finds what a test says in `found`, by generation."""

    def __init__(self) -> None:
        self.found: dict[int, Problems] = {}

    def problems(self, number: int, exposure_limit: float | None) -> Problems:
        return self.found.get(number, ())


class FakeGate:
    """Turns away the units that a test names in `closed`."""

    def __init__(self) -> None:
        self.closed: set[str] = set()

    def problems(self, step: AwaitReady) -> Problems:
        closed = Diagnostic("KI599", "Gate", f"{step.unit} is not let in.", "", address=step.unit)
        return (closed,) if step.unit in self.closed else ()


class FakeDisplay:
    """Remembers what a person would have seen."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, index: int, total: int, text: str) -> None:
        self.texts.append(text)

    def progress(self, done: int, total: int) -> None:
        self.texts.append(f"{done} of {total}")

    def waiting(self, text: str, elapsed_s: float) -> None:
        self.texts.append(f"waiting for {text}")

    def warn(self, problems: Problems) -> None:
        self.texts += [f"warning {problem.code}" for problem in problems]
