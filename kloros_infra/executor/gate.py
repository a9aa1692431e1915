"""The gate of one instance: ready in time, loaded as placed, and one token.

`/health` alone says little: a server that found no GPU answers it too, and so does one whose model cannot generate.
Every check has its own time, by the caller's clock; the first that is not passed ends the gate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, quoted_log
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.gate_ports import CardMemory, LlamaServers, StartLog
from kloros_infra.executor.machine import Machine
from kloros_infra.executor.readiness import LOG_LINES, POLL_S, await_ready
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import InstanceGate, TokenAnswer
from kloros_infra.ir.load_report import LoadReport
from kloros_infra.ir.plan import AwaitReady
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
    """What the gate asks beside the service manager and `/health`."""

    log: StartLog
    servers: LlamaServers
    cards: CardMemory


@dataclass(frozen=True, slots=True)
class Passed:
    """A gate that was passed: after how long the server was ready, how long its token took, and what is notable."""

    ready_after_s: float
    answered_in_s: float
    warnings: Problems


def pass_gate(gate: InstanceGate, machine: Machine, probes: Probes) -> Passed:
    """Check a started instance; raise StepFailedError, with its last log lines, at the first check it fails."""
    ready_after_s = await_ready(AwaitReady(gate.unit, f"{gate.base_url}/health", gate.ready_timeout_s), machine)
    main_pid = _main_pid(gate.unit, machine)
    found = _checked(gate, compare(gate.placement, _report(gate.unit, main_pid, machine, probes)), machine)
    held = probes.cards.used_bytes(main_pid) if gate.card_uuids else None
    if held is not None:
        by_device = {device: held[uuid] for device, uuid in gate.card_uuids if uuid in held}
        _checked(gate, compare_cards(gate.placement, by_device), machine)
    return Passed(ready_after_s, _one_token(gate, main_pid, machine, probes), found)


def _report(unit: str, main_pid: int, machine: Machine, probes: Probes) -> LoadReport:
    """Read the log until the server has said in it that the model is loaded; what is there by then, otherwise."""
    deadline = machine.clock.now() + REPORT_S
    report = parse_load_report(probes.log.lines(unit, main_pid))
    while not report.is_complete and machine.clock.now() < deadline:
        machine.clock.pause(POLL_S)
        report = parse_load_report(probes.log.lines(unit, main_pid))
    return report


def _one_token(gate: InstanceGate, main_pid: int, machine: Machine, probes: Probes) -> float:
    began = machine.clock.now()
    answer = probes.servers.ask_token(gate.base_url, gate.kind, gate.token_timeout_s)
    if not answer.is_good:
        has_ended = _main_pid(gate.unit, machine) != main_pid
        _checked(gate, (_no_token(gate, answer, has_ended=has_ended),), machine)
    return machine.clock.now() - began


def _main_pid(unit: str, machine: Machine) -> int:
    state = machine.manager.states((unit,)).get(unit)
    return 0 if state is None else state.main_pid


def _checked(gate: InstanceGate, problems: Problems, machine: Machine) -> Problems:
    """Give the problems back with the unit's name, or raise where one is an error: the last one quotes the log."""
    found = tuple(replace(problem, address=gate.unit) for problem in problems)
    if not has_errors(found):
        return found
    *others, last = found
    log = quoted_log(machine.manager.log_tail(gate.unit, LOG_LINES))
    raise StepFailedError((*others, replace(last, detail=last.detail + log)))


def _no_token(gate: InstanceGate, answer: TokenAnswer, *, has_ended: bool) -> Diagnostic:
    end = " Its process has ended meanwhile." if has_ended else ""
    return Diagnostic(
        code="KI577",
        summary="Ready, but it does not answer",
        detail=f"{gate.unit} answers /health, and was asked to {ASKED[gate.kind]}: {answer.detail}.{end}",
        hint="Its last lines say what it is doing; most often its kind does not fit the model, or memory has run out.",
    )
