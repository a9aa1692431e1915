"""`init` writes a file that the next commands take, on whatever machine it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fakes.nvml import DRIVER_NOT_LOADED, GTX_1080_TI, H100_IN_MIG_MODE, RTX_3060, RTX_5080, FakeNvml
from tests.warm_commands import run_command


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return FakeNvml(tmp_path_factory.mktemp("nvml"))


def run(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run kloros-infra in a folder, as a user who has no Ollama of his own."""
    clean = {**os.environ, "HOME": str(folder), "OLLAMA_MODELS": "", **(environment or {})}
    return run_command("kloros-infra", *words, folder=folder, environment=clean)


def codes(folder: Path) -> list[str]:
    """Validate what is there; give the codes of errors."""
    document = json.loads(run(folder, "validate", "--json").stdout)
    return [one["code"] for one in document["diagnostics"] if one["severity"] == "error"]


def test_this_machine_gets_a_file_that_only_lacks_its_lock(tmp_path: Path) -> None:
    done = run(tmp_path, "init")
    assert done.returncode == 0, done.stderr
    assert "kloros-infra lock" in done.stdout
    assert "kloros-infra plan" in done.stdout
    assert codes(tmp_path) == ["KI301"]
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]


@pytest.mark.real_model
def test_the_next_steps_are_those_that_it_prints(tmp_path: Path) -> None:
    first = run(tmp_path, "init", "--output", "my models.yaml").stdout
    for line in first.splitlines()[1:]:
        words = line.partition("#")[0]
        done = subprocess.run(
            ["/bin/sh", "-c", f"{words.replace('kloros-infra', f'{sys.executable} -m kloros_infra', 1)} $ROOT"],
            cwd=tmp_path,
            env={**os.environ, "ROOT": f"--root {tmp_path}/root" if "plan" in words else ""},
            capture_output=True,
            text=True,
            check=False,
        )
        # There is something to do: that is what plan says with 2.
        assert done.returncode == (2 if "plan" in words else 0), done.stderr
    assert "instance.chat-cpu_only will be created" in done.stdout


def test_what_is_there_is_not_overwritten_unless_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("mine")
    refused = run(tmp_path, "init")
    assert (refused.returncode, file.read_text()) == (1, "mine")
    assert "KI560" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["models.yaml"]

    printed = run(tmp_path, "init", "--print")
    assert (printed.returncode, file.read_text()) == (0, "mine")
    assert run(tmp_path, "init", "--force").returncode == 0
    assert file.read_text() == printed.stdout


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").symlink_to(tmp_path / "elsewhere")
    assert "KI560" in run(tmp_path, "init").stderr
    assert not (tmp_path / "elsewhere").exists()


def test_cards_are_declared_as_nvml_tells_them(tmp_path: Path, nvml: FakeNvml) -> None:
    environment = nvml.environment(RTX_3060, GTX_1080_TI, RTX_5080, H100_IN_MIG_MODE)
    done = run(tmp_path, "init", environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "models.yaml").read_text()
    document = yaml.safe_load(text)

    assert list(document["gpus"]) == ["rtx5080", "gtx1080ti", "rtx3060"]
    assert document["gpus"]["rtx3060"]["bandwidth"] == "360GB/s"
    assert next(iter(document["profiles"])) == "max"
    assert document["profiles"]["cpu_only"] == {"gpus": []}
    assert "# Left out: NVIDIA H100 80GB HBM3" in text
    assert codes(tmp_path) == ["KI301"]


def test_a_driver_that_does_not_answer_is_told_and_the_file_is_written(tmp_path: Path, nvml: FakeNvml) -> None:
    done = run(tmp_path, "init", environment=nvml.environment(DRIVER_NOT_LOADED))
    assert done.returncode == 0
    assert "warning KI561" in done.stderr
    assert codes(tmp_path) == ["KI301"]


def test_an_ollama_that_is_there_is_named_with_the_way_to_take_it_over(tmp_path: Path) -> None:
    manifest = tmp_path / ".ollama/models/manifests/registry.ollama.ai/library/llama3.2/3b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    text = run(tmp_path, "init", "--print").stdout
    assert f"kloros-infra import ollama --store {tmp_path}/.ollama/models\n#     llama3.2:3b\n" in text
