"""The gate of an instance that is ready: loaded as placed, and one token.

`/health` alone says little: a server that found no GPU answers it too, and so does one whose model cannot generate.
Every check has its own time, by the clock that it is given; the first that is not passed ends the gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, quoted_log
from kloros_infra.executor.gate_ports import CardMemory, LlamaServers, StartLog
from kloros_infra.executor.ports import Clock, ServiceManager
from kloros_infra.executor.readiness import LOG_LINES, POLL_S
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import InstanceGate, TokenAnswer
from kloros_infra.ir.load_report import LoadReport
from kloros_infra.ir.plan import AwaitReady
from kloros_infra.placement.card_check import other_cards
from kloros_infra.placement.load_check import compare, compare_cards
from kloros_infra.placement.load_report import parse_load_report

REPORT_S = 5.0
"""How long the log may lag behind the server, which writes it in a thread of its own, for a journal to read."""

ASKED = {
    ModelKind.CHAT: "generate one token",
    ModelKind.VISION: "generate one token",
    ModelKind.EMBEDDING: "embed one word",
    ModelKind.RERANK: "rank one word",
}


@dataclass(frozen=True, slots=True)
class Probes:
    """What the gate asks beside the service manager."""

    log: StartLog
    servers: LlamaServers
    cards: CardMemory


@dataclass(frozen=True, slots=True)
class LoadGate:
    """Checks what a server of ours loaded where, and that it works."""

    probes: Probes
    manager: ServiceManager
    clock: Clock

    def problems(self, step: AwaitReady) -> Problems:
        """Check a unit that is ready: its first errors, with its last log lines, or else what is notable."""
        if step.gate is None:
            return ()
        notable: list[Diagnostic] = []
        for found in self._checks(step.unit, step.gate):
            named = tuple(replace(problem, address=step.unit) for problem in found)
            if has_errors(named):
                return self._with_log(step.unit, named)
            notable += named
        return tuple(notable)

    def _checks(self, unit: str, gate: InstanceGate) -> Iterator[Problems]:
        main_pid = self._main_pid(unit)
        report = self._report(unit, main_pid)
        by_device = self._held(gate, main_pid)
        yield (*other_cards(gate.cards, report.seen), *compare(gate.placement, report))
        yield compare_cards(gate.placement, by_device)
        if report.main is None and not by_device and not gate.placement.is_cpu_only:
            yield (_unchecked(unit),)
        answer = self.probes.servers.ask_token(gate.base_url, gate.kind, gate.token_timeout_s)
        if not answer.is_good:
            yield (_no_token(unit, gate.kind, answer, has_ended=self._main_pid(unit) != main_pid),)

    def _held(self, gate: InstanceGate, main_pid: int) -> dict[str, int]:
        """Ask what a process holds of its cards, by device; nothing where nobody can tell."""
        held = self.probes.cards.used_bytes(main_pid) if gate.card_uuids else None
        return {device: held[uuid] for device, uuid in gate.card_uuids if held is not None and uuid in held}

    def _report(self, unit: str, main_pid: int) -> LoadReport:
        """Read the log until the server has said in it that the model is loaded; what is there by then, otherwise."""
        deadline = self.clock.now() + REPORT_S
        report = parse_load_report(self.probes.log.lines(unit, main_pid))
        while not report.is_complete and self.clock.now() < deadline:
            self.clock.pause(POLL_S)
            report = parse_load_report(self.probes.log.lines(unit, main_pid))
        return report

    def _main_pid(self, unit: str) -> int:
        state = self.manager.states((unit,)).get(unit)
        return 0 if state is None else state.main_pid

    def _with_log(self, unit: str, problems: Problems) -> Problems:
        *others, last = problems
        log = quoted_log(self.manager.log_tail(unit, LOG_LINES))
        return (*others, replace(last, detail=last.detail + log))


def _unchecked(unit: str) -> Diagnostic:
    return Diagnostic(
        code="KI565",
        summary="Placement on a GPU not checked",
        detail=f"Neither the log of {unit} nor the NVIDIA driver says what it holds on which card; it may run without "
        "any.",
        hint="Use a llama-server that writes what it loads (LLAMA_ARG_LOG_VERBOSITY=4), and see that NVML is there.",
    )


def _no_token(unit: str, kind: ModelKind, answer: TokenAnswer, *, has_ended: bool) -> Diagnostic:
    end = " Its process has ended meanwhile." if has_ended else ""
    return Diagnostic(
        code="KI577",
        summary="Ready, but it does not answer",
        detail=f"{unit} answers /health, and was asked to {ASKED[kind]}: {answer.detail}.{end}",
        hint="Its last lines say what it is doing; most often its kind does not fit the model, or memory has run out.",
    )
