"""One instance's gate: each check, in order, and what is said where it is not passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.diagnostics import Problems
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.gate import REPORT_S, LoadGate, Probes
from kloros_infra.executor.perform import let_through
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.gate import ExpectedCard, InstanceGate
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.placement import CPU, DeviceLoad, Placement
from kloros_infra.ir.plan import AwaitReady
from kloros_infra.placement.load_report import MIB
from tests.fakes.gate import FakeCardMemory, FakeLlamaServers, FakeStartLog
from tests.fakes.machine import FakeMachine

CASES = Path(__file__).parents[2] / "cases" / "load_report"
UNIT = "llama@small-max.service"
URL = "http://127.0.0.1:8601"
UUID = "GPU-6a2b3c4d-0000-1111-2222-333344445555"


def log_of(case: str) -> tuple[str, ...]:
    return tuple((CASES / case / "llama-server.log").read_text("utf-8").splitlines())


# SmolLM2 on one card as the server of b10068-flash-attention-auto loaded it.
ON_A_CARD = Placement(
    engine="single",
    layer_devices=("CUDA0",) * 31,
    exceptions=(),
    loads=(
        DeviceLoad("CUDA0", "rtx3060", 30, round(92.17 * MIB), 45 * MIB, 15 * MIB, 12 * 2**30),
        DeviceLoad(CPU, None, 0, round(28.69 * MIB), 0, 5 * MIB, None),
    ),
    context_tokens=2048,
    parallel=1,
    micro_batch=512,
)
GATE = InstanceGate(URL, ModelKind.CHAT, ON_A_CARD, token_timeout_s=30, card_uuids=(("CUDA0", UUID),))
AS_PLACED = log_of("b10068-flash-attention-auto")


class House:
    """A machine on which the unit runs, and its gate's probes."""

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.machine.files.files[Layout().unit_path(UNIT)] = TextFile("[Service]\nExecStart=:/bin/llama-server\n")
        self.machine.manager.logs[UNIT] = ("what it wrote last",)
        self.log = FakeStartLog()
        self.log.written[UNIT] = AS_PLACED
        self.servers = FakeLlamaServers()
        self.cards = FakeCardMemory()
        self.gate: InstanceGate | None = GATE
        self.machine.manager.start(UNIT)

    def problems(self) -> Problems:
        return self._gate().problems(self._step())

    def pass_through(self) -> None:
        let_through(self._step(), replace(self.machine.ports_of_apply(), gate=self._gate()))

    def _step(self) -> AwaitReady:
        return AwaitReady(UNIT, f"{URL}/health", 60, self.gate)

    def _gate(self) -> LoadGate:
        return LoadGate(Probes(self.log, self.servers, self.cards), self.machine.manager, self.machine.clock)

    def refusal(self) -> list[tuple[str, str]]:
        with pytest.raises(StepFailedError) as caught:
            self.pass_through()
        assert {problem.address for problem in caught.value.problems} == {UNIT}
        assert caught.value.problems[-1].detail.endswith("\n    | what it wrote last")
        return [(problem.code, problem.detail) for problem in caught.value.problems]


@pytest.fixture
def house() -> House:
    return House()


def test_a_server_that_is_as_placed_and_answers_passes(house: House) -> None:
    house.pass_through()
    assert not [text for text in house.machine.display.texts if text.startswith("warning")]
    assert house.servers.asked == [(URL, ModelKind.CHAT)]
    assert house.machine.health.asks.keys() == {f"{URL}/health"}


def test_one_that_is_never_ready_is_not_asked_anything_else(house: House) -> None:
    house.machine.health.silent.add(f"{URL}/health")
    assert [code for code, _ in house.refusal()] == ["KI508"]
    assert house.servers.asked == []


def test_one_that_ends_is_not_waited_for(house: House) -> None:
    house.machine.manager.crashing.add(UNIT)
    house.machine.manager.restart(UNIT)
    assert [code for code, _ in house.refusal()] == ["KI507"]
    assert house.machine.clock.now() == 0


def test_one_on_the_cpu_is_refused_though_it_would_answer(house: House) -> None:
    house.log.written[UNIT] = log_of("b10068-no-gpu-found")
    assert [code for code, _ in house.refusal()] == ["KI571"]
    assert house.servers.asked == []


def test_all_that_is_not_as_placed_is_named_at_once(house: House) -> None:
    house.log.written[UNIT] = log_of("b10068-kv-in-host-memory")
    found = house.refusal()
    assert [code for code, _ in found] == ["KI573", "KI573", "KI575"]
    assert sum("what it wrote last" in detail for _, detail in found) == 1


def test_another_card_behind_the_device_is_refused_though_all_is_in_its_place(house: House) -> None:
    house.gate = replace(GATE, cards=(ExpectedCard("CUDA0", "gtx1080ti", 11165 * MIB),))
    ((code, detail),) = house.refusal()
    assert code == "KI448"
    assert "gtx1080ti, of which CUDA sees 11165 MiB" in detail
    assert house.servers.asked == []


def test_a_log_that_lags_behind_is_waited_for(house: House) -> None:
    house.log.written[UNIT], house.log.later[UNIT] = AS_PLACED[:20], AS_PLACED[20:]
    assert house.problems() == ()


def test_without_a_load_report_a_placement_on_a_card_is_not_taken_on_trust(house: House) -> None:
    house.log.written[UNIT] = ()
    assert [code for code, _ in house.refusal()] == ["KI565"]
    # NVML is there, and knows nothing of this card.
    house.cards.held = {"GPU-of-another-profile": 500 * MIB}
    assert [code for code, _ in house.refusal()] == ["KI565"]
    assert house.servers.asked == []


def test_without_a_load_report_nothing_is_wrong_with_a_placement_on_the_cpu(house: House) -> None:
    house.log.written[UNIT] = ()
    house.gate = replace(GATE, placement=replace(ON_A_CARD, loads=ON_A_CARD.loads[1:], layer_devices=(CPU,) * 30))
    assert [problem.code for problem in house.problems()] == ["KI570"]


def test_without_a_load_report_the_rest_is_checked_with_a_warning(house: House) -> None:
    house.log.written[UNIT] = ()
    house.cards.held = {UUID: 500 * MIB}
    assert [(problem.code, problem.address) for problem in house.problems()] == [("KI570", UNIT)]
    assert house.machine.clock.now() >= REPORT_S
    assert len(house.servers.asked) == 1
    house.pass_through()
    assert house.machine.display.texts[-1] == "warning KI570"


def test_a_unit_without_a_gate_is_only_waited_for(house: House) -> None:
    house.gate = None
    house.pass_through()
    assert house.servers.asked == []


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (ModelKind.CHAT, "generate one token"),
        (ModelKind.VISION, "generate one token"),
        (ModelKind.EMBEDDING, "embed one word"),
        (ModelKind.RERANK, "rank one word"),
    ],
)
def test_one_that_is_ready_and_never_answers_is_refused(house: House, kind: ModelKind, asked: str) -> None:
    house.gate = replace(GATE, kind=kind)
    house.servers.mute[URL] = "it did not answer within 30 s"
    ((code, detail),) = house.refusal()
    assert code == "KI577"
    assert f"was asked to {asked}: it did not answer within 30 s." in detail
    assert "ended" not in detail


def test_one_that_ends_over_its_first_token_is_said_to_have_ended(house: House) -> None:
    house.servers.mute[URL] = "the connection was lost (Connection reset by peer)"
    house.servers.on_ask = lambda: house.machine.manager.stop(UNIT)
    ((code, detail),) = house.refusal()
    assert code == "KI577"
    assert "Its process has ended meanwhile." in detail


def test_nvml_is_believed_where_it_knows_the_process(house: House) -> None:
    house.cards.held = {UUID: 500 * MIB, "GPU-of-another-profile": 0}
    assert house.problems() == ()
    house.cards.held = {UUID: 9000 * MIB}
    ((code, detail),) = house.refusal()
    assert code == "KI578"
    assert "9000 MiB on CUDA0 (rtx3060)" in detail


def test_nvml_is_not_asked_where_the_cards_are_not_known_by_uuid(house: House) -> None:
    house.gate = replace(GATE, card_uuids=())
    house.cards.held = {UUID: 9000 * MIB}
    assert house.problems() == ()
    assert house.cards.asked == []


def test_a_manager_that_knows_nothing_of_the_unit_is_no_pass(house: House) -> None:
    house.machine.manager.stop(UNIT)
    assert [code for code, _ in house.refusal()] == ["KI507"]
