"""What NVML says of cards, through nvidia-ml-py and a library that stands in for NVIDIA's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.fakes.nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    GTX_1080_TI,
    H100_IN_MIG_MODE,
    RTX_3060,
    RTX_5080,
    FakeNvml,
    card,
)

# The library is chosen when the process starts.
ASK = """
import dataclasses, json
from kloros_infra.adapters.nvml import nvml_cards
cards, problems = nvml_cards()
shown = None if cards is None else [dataclasses.asdict(card) for card in cards]
print(json.dumps([shown, [[problem.code, problem.severity, problem.detail] for problem in problems]]))
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return FakeNvml(tmp_path_factory.mktemp("nvml"))


def ask(environment: dict[str, str]) -> tuple[list[dict[str, Any]] | None, list[list[str]]]:
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    cards, problems = json.loads(done.stdout)
    return cards, problems


def cards_of(nvml: FakeNvml, *cards: str) -> list[dict[str, Any]]:
    found, problems = ask(nvml.environment(*cards))
    assert problems == []
    assert found is not None
    return found


def test_cards_are_described_in_the_units_of_models_yaml(nvml: FakeNvml) -> None:
    rtx_5080, rtx_3060, gtx_1080_ti = cards_of(nvml, RTX_5080, RTX_3060, GTX_1080_TI)

    assert rtx_5080 == {
        "name": "NVIDIA GeForce RTX 5080",
        "uuid": "GPU-5a2b3c4d-0000-1111-2222-333344445555",
        "pci": "0000:01:00.0",
        "vram_bytes": 16303 * 2**20,
        "bandwidth_bytes_per_s": 960_064_000_000,
        "compute_capability": [12, 0],
        "obstacle": "",
    }
    # The data sheets say 360 and 484 GB/s.
    assert rtx_3060["bandwidth_bytes_per_s"] == 360_048_000_000
    assert gtx_1080_ti["bandwidth_bytes_per_s"] == 484_440_000_000
    assert gtx_1080_ti["compute_capability"] == [6, 1]


def test_a_machine_without_cards_has_none(nvml: FakeNvml) -> None:
    assert cards_of(nvml) == []


def test_a_card_in_mig_mode_is_named_with_its_obstacle(nvml: FakeNvml) -> None:
    (found,) = cards_of(nvml, H100_IN_MIG_MODE)
    assert found["pci"] == "0000:0a:00.0"
    assert "MIG" in found["obstacle"]


def test_a_lost_card_does_not_hide_the_others(nvml: FakeNvml) -> None:
    lost, other = cards_of(nvml, GPU_IS_LOST, RTX_3060)
    assert "GPU is lost" in lost["obstacle"]
    assert other["name"] == "NVIDIA GeForce RTX 3060"


def test_what_a_card_does_not_tell_is_not_known(nvml: FakeNvml) -> None:
    (found,) = cards_of(nvml, card("NVIDIA GB10", "", "00010000:01:00.0", "", "", "", "12.1", ""))
    assert (found["uuid"], found["vram_bytes"], found["bandwidth_bytes_per_s"]) == (None, None, None)
    # A PCI domain of more than four digits has no form in models.yaml.
    assert found["pci"] is None
    assert found["compute_capability"] == [12, 1]


def test_a_name_that_is_no_text_is_not_known(nvml: FakeNvml) -> None:
    (found,) = cards_of(nvml, card("\udcff\udcfe", "GPU-5a2b3c4d-0000-1111-2222-333344445555", *("",) * 6))
    assert found["name"] is None
    assert found["uuid"] == "GPU-5a2b3c4d-0000-1111-2222-333344445555"


def test_a_driver_that_is_not_loaded_is_a_warning(nvml: FakeNvml) -> None:
    cards, problems = ask(nvml.environment(DRIVER_NOT_LOADED))
    assert cards is None
    assert [(code, severity) for code, severity, _ in problems] == [("KI561", "warning")]
    assert "Driver Not Loaded" in problems[0][2]


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="this machine has NVIDIA's library")  # noqa: PTH110
def test_a_machine_without_the_library_is_no_problem() -> None:
    assert ask({"LD_LIBRARY_PATH": ""}) == (None, [])
