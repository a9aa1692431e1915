"""`kloros-infra doctor` on real installations, and on a machine with cards that a test makes up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml_scripted import ScriptedNvml, build
from tests.integration.conftest import CHECKOUT, SMOLLM2, Laptop, kloros_infra, only
from tests.warm_commands import run_command

CARD = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
PCI = "0000:04:00.0"
# These say how the machine is that the tests run on, the last how busy it is.
OF_THE_MACHINE = {"KI955", "KI956", "KI957", "KI958", "KI960", "KI961", "KI965"}
ASK = """
import sys
from pathlib import Path
from kloros_infra.cli.doctor.card_facts import Kernel
from kloros_infra.cli.doctor.gathering import gather
from kloros_infra.cli.doctor.report import report_json
from kloros_infra.cli.wiring import target
from kloros_infra.doctor.examine import examine
file, folder = map(Path, sys.argv[1:])
where = target(folder / "root", "auto")
print(report_json(examine(gather(file, where, Kernel(folder / "sys", folder / "proc")))))
"""


def doctor(root: Path, *words: str | Path, folder: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run the command in a folder without models.yaml; give its exit code and the checks that are not well."""
    done = run_command("kloros-infra", "doctor", "--root", root, "--json", *words, folder=folder)
    assert done.stderr == ""
    checks = json.loads(done.stdout)["checks"]
    unwell = {check["code"]: check for check in checks if check["code"] not in OF_THE_MACHINE | {""}}
    return done.returncode, unwell


def test_before_the_first_apply_only_that_is_to_be_done(laptop: Laptop) -> None:
    code, unwell = doctor(laptop.root, "-f", laptop.file, folder=laptop.folder.parent)

    assert (code, sorted(unwell)) == (0, ["KI962", "KI968"])
    assert not laptop.root.exists()


@pytest.mark.real_model
def test_an_installation_is_well_until_something_is_not(laptop: Laptop, tmp_path: Path) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0
    assert doctor(laptop.root, "-f", laptop.file, folder=tmp_path) == (0, {})
    assert doctor(laptop.root, folder=tmp_path) == (0, {})

    laptop.edit(lambda document: document.update(personas=[]))
    code, unwell = doctor(laptop.root, "-f", laptop.file, folder=tmp_path)
    assert (code, list(unwell)) == (0, ["KI969"])

    tmpfiles = laptop.root / "etc/tmpfiles.d/kloros-infra.conf"
    before = tmpfiles.read_text()
    tmpfiles.write_text(f"{before}d /run/other\n")
    assert list(doctor(laptop.root, folder=tmp_path)[1]) == ["KI969"]
    tmpfiles.write_text(before)

    pid = router_pid(laptop.root)
    os.kill(pid, signal.SIGSTOP)
    try:
        begun_s = time.monotonic()
        code, unwell = doctor(laptop.root, folder=tmp_path)
        assert (code, list(unwell)) == (1, ["KI966"])
        assert time.monotonic() - begun_s < 30
    finally:
        os.kill(pid, signal.SIGCONT)

    routing = laptop.root / "etc/kloros-infra/current/routing.json"
    text = routing.read_text()
    routing.write_text("{}")
    code, unwell = doctor(laptop.root, folder=tmp_path)
    routing.write_text(text)
    assert code == 1
    assert {"KI979", "KI930"} == set(unwell)


def router_pid(root: Path) -> int:
    units = json.loads(kloros_infra("status", "--root", root, "--json").stdout)["units"]
    return next(int(unit["main_pid"]) for unit in units if unit["name"] == "router")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> ScriptedNvml:
    """Make up a card at which a driver is bound."""
    device = tmp_path / "sys/bus/pci/devices" / PCI
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    information = tmp_path / "proc/driver/nvidia/gpus" / PCI / "information"
    information.parent.mkdir(parents=True)
    information.write_text(f"Model: \t\t NVIDIA GeForce RTX 3060\nGPU UUID: \t {CARD}\n")
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.09  Wed Nov 23 00:00:00 UTC 2026\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(version)
    (tmp_path / "proc/devices").write_text("Character devices:\n195 nvidia\n195 nvidiactl\n")
    return ScriptedNvml(library, tmp_path)


def checks_of_cards(nvml: ScriptedNvml, folder: Path) -> dict[str, list[tuple[str, str]]]:
    argv = [sys.executable, "-c", ASK, CHECKOUT / "examples/includes/models.yaml", folder]
    done = subprocess.run(
        [*map(str, argv)], env=nvml.environment, capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for check in json.loads(done.stdout)["checks"]:
        if check["group"] in ("Cards and driver", "llama-server"):
            found.setdefault(check["name"], []).append((check["code"], check["detail"]))
    return found


def test_a_machine_with_a_card_is_held_against_what_it_needs(nvml: ScriptedNvml, tmp_path: Path) -> None:
    nvml.say(f"card uuid={CARD} pci={PCI} total={11 * 2**30} used=0")
    found = checks_of_cards(nvml, tmp_path)

    assert found["driver"] == [("", "580.126.09, which supports rtx3060")]
    assert found["kernel_modules"] == [("", "proprietary, as the cards need them")]
    assert found["nvml"] == [("", "NVML answers")]
    assert found["cards"] == [("KI940", "rtx3060 has 11264 MiB, and models are placed for 11906 MiB")]
    assert found["persistence"] == [("KI942", "nvidia-persistenced does not run")]
    assert [code for code, _ in found["devices"]] == ["KI943", "KI945"]
    assert [code for code, _ in found["cuda_build"]] == ["KI948"]
    assert "vulkan" in found["cuda_build"][0][1]


def test_a_driver_that_hangs_holds_nothing_up(nvml: ScriptedNvml, tmp_path: Path) -> None:
    nvml.say("hold", f"card uuid={CARD} pci={PCI} total={12 * 2**30} used=0")
    begun_s = time.monotonic()
    found = checks_of_cards(nvml, tmp_path)

    assert time.monotonic() - begun_s < 30
    assert found["nvml"] == [("KI937", "NVML does not answer: not in time")]
    assert found["driver"][0][0] == ""


def test_a_card_that_is_away_is_a_warning(nvml: ScriptedNvml, tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia/gpus" / PCI / "information").unlink()
    found = checks_of_cards(nvml, tmp_path)

    assert [code for code, _ in found["cards"]] == ["KI938"]
    assert nvml.asked() == []
