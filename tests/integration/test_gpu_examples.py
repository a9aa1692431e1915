"""The examples in docs/examples, run as scripts beside a stand-in for `kloros-infra` that notes what it is asked."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from kloros_infra.cli.program import program
from kloros_infra.errors import KlorosError

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GPU, AUDIO, DISK = "0000:01:00.0", "0000:01:00.1", "0000:05:00.0"
# It knows one GPU, and answers as the file `answer` says.
STAND_IN = f"""#!/bin/sh
[ -z "$LD_LIBRARY_PATH" ] || exit 99
echo "$*" >>"$(dirname "$0")/asked"
[ "$3" = {GPU} ] || [ "$3" = rtx5080 ] || exit 2
exit "$(cat "$(dirname "$0")/answer")"
"""
HOSTDEV = """
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x{bus}' slot='0x00' function='0x{function}'/></source>
      <address type='pci' domain='0x0000' bus='0x07' slot='0x00' function='0x0'/>
    </hostdev>"""
XML = f"""<domain type='kvm'>
  <name>win11</name>
  <devices>
    <disk type='block'><address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>
    <hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
    {"".join(HOSTDEV.format(bus=bus, function=function) for bus, function in (("05", 0), ("01", 1), ("01", 0)))}
  </devices>
</domain>"""
RELEASED = "--wait 20s --reason virtual machine win11"


class Beside:
    """A folder with the stand-in, and scripts that find it there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.libraries = ""
        stand_in = folder / "kloros-infra"
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        self.answer(0)

    def answer(self, status: int) -> None:
        (self._folder / "answer").write_text(f"{status}\n")

    def asked(self) -> list[str]:
        file = self._folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self._folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "KLOROS_GPU": "rtx5080", "LD_LIBRARY_PATH": self.libraries}

    def run(self, *words: str, text: str = "") -> int:
        done = subprocess.run(
            words, input=text, env=self.environment, capture_output=True, text=True, check=False, timeout=20
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode

    def hook(self, operation: str, sub_operation: str) -> int:
        return self.run(str(EXAMPLES / "libvirt-qemu-hook"), "win11", operation, sub_operation, "-", text=XML)


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path)


def test_libvirt_has_every_gpu_released_before_a_machine_starts(beside: Beside) -> None:
    assert beside.hook("prepare", "begin") == 0
    # What is no GPU of ours is asked for as well, and passed over.
    assert beside.asked() == [f"gpu release {address} {RELEASED}" for address in (DISK, AUDIO, GPU)]


def test_libvirt_does_not_start_a_machine_whose_gpu_is_in_use_and_we_take_it_back(beside: Beside) -> None:
    beside.answer(3)
    assert beside.hook("prepare", "begin") == 3
    assert beside.asked()[-2:] == [f"gpu release {GPU} {RELEASED}", f"gpu return {GPU}"]


def test_libvirt_has_every_gpu_returned_when_a_machine_has_ended(beside: Beside) -> None:
    assert [beside.hook(*words) for words in (("start", "begin"), ("started", "begin"), ("stopped", "end"))] == [0] * 3
    assert beside.asked() == []
    assert beside.hook("release", "end") == 0
    assert beside.asked() == [f"gpu return {address}" for address in (DISK, AUDIO, GPU)]


def test_the_steam_wrapper_gives_the_gpu_up_while_the_game_runs(beside: Beside, tmp_path: Path) -> None:
    beside.libraries = "/of/steam"
    game = f'[ "$LD_LIBRARY_PATH" = /of/steam ] && cp {tmp_path}/asked {tmp_path}/before; exit 7'
    assert beside.run(str(EXAMPLES / "steam-launch-wrapper"), "sh", "-c", game) == 7
    release = "gpu release rtx5080 --wait 8s --reason game"
    assert (tmp_path / "before").read_text().splitlines() == [release]
    assert beside.asked() == [release, "gpu return rtx5080"]


def test_the_steam_wrapper_starts_the_game_though_others_use_the_gpu(beside: Beside) -> None:
    beside.answer(3)
    assert beside.run(str(EXAMPLES / "steam-launch-wrapper"), "true") == 0


def test_the_steam_wrapper_takes_the_gpu_back_when_it_is_told_to_end(beside: Beside, tmp_path: Path) -> None:
    game = f"touch {tmp_path}/runs; while [ ! -e {tmp_path}/over ]; do sleep 0.05; done"
    argv = [str(EXAMPLES / "steam-launch-wrapper"), "sh", "-c", game]
    with subprocess.Popen(argv, env=beside.environment) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "runs").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        process.send_signal(signal.SIGTERM)
        (tmp_path / "over").touch()
        assert process.wait(20) == 143
    assert beside.asked()[-1] == "gpu return rtx5080"


def test_gamemode_runs_commands_that_there_are(beside: Beside) -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string((EXAMPLES / "gamemode.ini").read_text())
    custom = parsed["custom"]
    for key in ("start", "end"):
        assert beside.run(*shlex.split(custom[key])) == 0
    assert beside.asked() == ["gpu release rtx5080 --wait 8s --reason gaming", "gpu return rtx5080"]
    # gamemoded ends what takes longer; ours may take 5 s for each of stopping and killing.
    assert int(custom["script_timeout"]) >= 8 + 5


@pytest.mark.parametrize(
    "words",
    [
        ["release", GPU, "--wait", "20s", "--reason", "virtual machine win11"],
        ["release", "rtx5080", "--wait", "8s", "--reason", "gaming"],
        ["return", GPU],
    ],
)
def test_the_command_takes_what_the_examples_say_and_knows_no_gpu_where_nothing_is_installed(
    words: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(program, ["gpu", *words, "--root", str(tmp_path)])
    assert isinstance(done.exception, KlorosError), done.output
    assert done.exception.exit_code == 2


def test_without_kloros_infra_libvirt_starts_machines_as_ever(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    hook = [str(EXAMPLES / "libvirt-qemu-hook"), "win11", "prepare", "begin", "-"]
    done = subprocess.run(hook, input=XML, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
