"""What commands say of an instance that two profiles share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.commands import lock_command, placement_command
from kloros_infra.cli.exporting import Format, export_project
from kloros_infra.cli.model_views import show_lines
from kloros_infra.cli.placements import read_view
from kloros_infra.cli.project import read_project
from kloros_infra.cli.why import reasons
from kloros_infra.cli.wiring import ManagerChoice, Target, compile_project

CONFIG = {
    "version": 1,
    "hosts": {"box": {}},
    "gpus": {
        "big": {"host": "box", "pci": "0000:01:00.0", "name": "NVIDIA GeForce RTX 3090"},
        "rtx3060": {"host": "box", "pci": "0000:04:00.0"},
    },
    "profiles": {"max": {"gpus": ["big", "rtx3060"]}, "mid": {"gpus": ["rtx3060"]}},
    "models": [
        {
            "id": "chat",
            "purpose_tags": ["fast"],
            "context_tokens": 8192,
            "placement": "manual",
            "versions": [
                {
                    "version_id": "1",
                    "gguf_url": "file:///weights/chat.gguf",
                    "architecture": "llama-3.1-8b",
                    "quantization": "Q4_K_M",
                }
            ],
            "profiles": {"max": {"port": 8601, "layers": {"rtx3060": 33}}, "mid": {"layers": {"rtx3060": 33}}},
        }
    ],
    "purposes": {"fast": {"candidates": ["chat"], "default": True}},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("site") / "models.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    result = CliRunner().invoke(lock_command.command, ["--file", str(file)])
    assert result.exit_code == 0, result.output
    return file


def show(site: Path, *words: str) -> Result:
    return CliRunner().invoke(placement_command.command, ["show", "--file", str(site), *words])


def test_placement_says_with_whom_it_is_shared(site: Path) -> None:
    view = read_view(site)
    shown, told = show(site), json.loads(show(site, "--json").stdout)

    assert [one.instance.port for one in view.placed] == [8601, 8601]
    assert "chat-mid (chat), placed by layers, shared with max" in shown.stdout
    assert "chat-max (chat), placed by layers\n" in shown.stdout
    assert [one["shared_with"] for one in told["instances"]] == [None, "chat-max"]


def test_a_model_is_shown_with_the_port_that_serves_it(site: Path) -> None:
    lines = list(show_lines(compile_project(read_project(site)), "chat"))

    slots = "placed by layers, 1 at a time with 8192 tokens each"
    assert [line for line in lines if "port" in line] == [
        f"  max: port 8601, {slots}",
        f"  mid: shared with max, port 8601, {slots}",
    ]


@pytest.mark.parametrize("name", ["chat-mid", "llama@chat-mid.service", "chat-max"])
def test_why_explains_the_unit_that_serves_it(site: Path, name: str) -> None:
    project = read_project(site)
    unit, (found,) = reasons(project, compile_project(project), f"{name}:LLAMA_ARG_PORT")

    assert (unit, found.value) == ("llama@chat-max.service", "8601")


def test_an_export_of_a_profile_has_its_shared_instances(site: Path, tmp_path: Path) -> None:
    where = Target(tmp_path, ManagerChoice.SUPERVISOR)

    assert "[chat]" in export_project(site, where, "mid", Format.LLAMA_PRESETS).text
