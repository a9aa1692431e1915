"""What the two faces of the router (ChemBus, HTTP) need of each other and of the outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError
from kloros_infra.ir.seen_card import SeenCard
from kloros_infra.ir.seen_unit import SeenUnit
from kloros_infra.router.effects import Send, Target
from kloros_infra.router.events import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole chat answer and how fast it came; times in seconds, from sending the request."""

    text: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float
    duration_s: float
    tokens_per_s: float


class UpstreamError(KlorosError):
    """A target could not be asked, or its answer broke off; carries one KI82x diagnostic."""

    def __init__(self, problem: Diagnostic, *, outcome: Outcome, started: bool) -> None:
        super().__init__((problem,))
        self.problem = problem
        self.outcome = outcome
        """How far the target is to be blamed."""
        self.started = started
        """True when some of the answer had arrived."""
        self.retry_after_s: float | None = None
        """When a target that is busy or loads wants to be asked again."""


class UnitControl(Protocol):
    """The service manager (systemd or the embedded supervisor), by unit name; every wait has a deadline of its own."""

    async def start(self, unit: str) -> None:
        """Start a unit; return when its job is done, raise UnitError when it failed.

        A unit that is up already is fine. llama-server may still be loading then.
        """
        ...

    async def stop(self, unit: str) -> None:
        """Stop a unit; return when its processes are gone. One that is down already is fine."""
        ...

    async def restart(self, unit: str) -> None:
        """Stop a unit that does not answer, by force where it must be, and start it again."""
        ...

    async def states(self, units: Sequence[str]) -> Mapping[str, SeenUnit]:
        """Say how units are; one that the manager does not know is down, or left out.

        Raise UnitError where the manager cannot be asked.
        """
        ...

    async def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        """Give the last lines of a unit's log; none where there is no log."""
        ...


class CardMemory(Protocol):
    """The cards' driver (adapters.nvml_memory.NvmlCards); asked on a thread of its own."""

    def read(self) -> tuple[SeenCard, ...] | None:
        """Say how each card is used; none where nobody uses any, None where no driver answers."""
        ...

    def family(self, pid: int) -> frozenset[int]:
        """Give a process and its descendants."""
        ...


class Hearer(Protocol):
    """Whoever waits for a chat answer; after `on_completion` or `on_failure` nothing more comes."""

    def on_delta(self, text: str, reasoning: str) -> None:
        """Take in a piece of the answer."""
        ...

    def on_completion(self, completion: Completion) -> None:
        """Take in the whole answer."""
        ...

    def on_failure(self, error: UpstreamError) -> None:
        """Take in that there is no whole answer, and why."""
        ...


class Call(Protocol):
    """A chat that is under way."""

    def cancel(self) -> None:
        """Want no more of it; the target stops generating. Fine where it is over."""
        ...


class Upstreams(Protocol):
    """Calls targets (daemon.upstream.UpstreamPool)."""

    def chat(self, send: Send, body: Mapping[str, Any], hearer: Hearer) -> Call | UpstreamError:
        """Ask for a chat completion, which the hearer gets as it comes; what cannot even be asked is given back."""
        ...


class HealthChecks(Protocol):
    """Asks targets whether they can serve (daemon.upstream.UpstreamPool)."""

    async def check(self, target: Target, path: bytes, *, timeout_s: float) -> Verdict:
        """Ask for a target's health: 200 is healthy, 503 loading; never raises."""
        ...

    async def is_switched_on(self, url: str, *, timeout_s: float) -> bool:
        """Ask a remote host's toggle; True where it cannot be asked, as KLoROS's own client takes it."""
        ...

    def give_up(self, target: str) -> None:
        """End what waits for a target in vain: it does not answer its health check either."""
        ...

    def watch_silence(self, told: Callable[[Target], None]) -> None:
        """Name who is told of targets that have something to answer and are silent."""
        ...


class Journal(Protocol):
    """A text file of lines that survives the router (adapters.line_journal.LineJournal)."""

    def read(self) -> str:
        """Give the text; empty where there is no file. Raise OSError or UnicodeDecodeError."""
        ...

    def append(self, text: str) -> None:
        """Add whole lines and have them reach the disk; raise OSError."""
        ...

    def rewrite(self, text: str) -> None:
        """Put another text in place of all, at once or not at all; raise OSError."""
        ...


class Credentials(Protocol):
    """Secrets that the service manager hands over (adapters.credentials.CredentialFolder)."""

    def read(self, name: str) -> str:
        """Give a secret without the line's end; raise OSError."""
        ...

    def read_lines(self, name: str) -> tuple[str, ...]:
        """Give the secrets of a file that holds one a line; raise OSError."""
        ...


class Bus(Protocol):
    """A peer on ChemBus (adapters.chembus.BusPeer), subscribed by whoever made it."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send without waiting; the bus loses what nobody takes."""
        ...

    def listen(self, hear: Callable[[str, bytes], None]) -> None:
        """Name who gets each message from here on: topic, and payload as sent."""
        ...


class Direct(Protocol):
    """The endpoint that clients ask directly (adapters.direct_endpoint.DirectEndpoint)."""

    def send(self, client: bytes, payload: bytes) -> bool:
        """Send to one client without waiting; False where it is gone."""
        ...

    def listen(self, hear: Callable[[bytes, bytes], None]) -> None:
        """Name who gets each message from here on: the client, and the payload as sent."""
        ...


class WatchedText(Protocol):
    """A text file that someone else replaces (adapters.watched_file.WatchedFile)."""

    @property
    def name(self) -> str: ...
    def stamp(self) -> object:
        """Give a value that changes when the file is replaced or written; None where there is none."""
        ...

    def read(self) -> str:
        """Read it; raise OSError or UnicodeDecodeError."""
        ...


class Clock(Protocol):
    """Time: `now` never jumps, `epoch_s` is what people and other machines call the time."""

    def now(self) -> float: ...
    def epoch_s(self) -> float: ...
