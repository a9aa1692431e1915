"""`gpu release` on an installation whose units the embedded supervisor runs, beside a driver that a test scripts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.cli.gpu_real_card import RealCard
from kloros_infra.cli.gpu_site import GpuSite
from tests.fakes.nvml_scripted import ScriptedNvml, build
from tests.gpu_sites import CODE_MAX, CODE_MID, RTX_5080, a_gpu_site
from tests.integration.conftest import kloros_infra
from tests.needed import need

UUID = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
CARD = f"card uuid={UUID} pci=0000:7f:00.0 total=17000000000"

# It says that it has begun, and has a device file open until its standard input ends.
HOLD = "import sys; held = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
# It goes on when it is told to stop.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); [time.sleep(1) for _ in range(600)]"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> ScriptedNvml:
    return ScriptedNvml(library, tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> GpuSite:
    found = a_gpu_site(tmp_path)
    facts = found.places.procfs / "driver" / "nvidia" / "gpus" / (RTX_5080.pci or "")
    facts.mkdir(parents=True)
    (facts / "information").write_text(f"GPU UUID: {UUID}\nDevice Minor: 0\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    return found


@pytest.fixture
def supervisor(site: GpuSite) -> Iterator[SupervisorClient]:
    client = SupervisorClient(site.where.root)
    yield client
    client.shutdown()


Release = Callable[..., subprocess.CompletedProcess[str]]


def words_of(site: GpuSite, tmp_path: Path, wait: str = "0.5s") -> list[str | Path]:
    """Write the command, on a kernel of the test's."""
    places = site.places
    program = (sys.executable, "-m", "kloros_infra", "gpu", "release", "rtx5080", "--wait", wait, "--reason", "gaming")
    kernel = ("--sysfs", places.sysfs, "--procfs", places.procfs, "--dev", tmp_path / "dev")
    return [*program, "--root", places.where.root, *kernel]


@pytest.fixture
def release(nvml: ScriptedNvml, site: GpuSite, tmp_path: Path) -> Release:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*words_of(site, tmp_path), *words]
        return subprocess.run(argv, env=nvml.environment, capture_output=True, text=True, check=False, timeout=60)

    return run


def said(done: subprocess.CompletedProcess[str]) -> tuple[int, dict[str, Any]]:
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@contextmanager
def a_holder(site: GpuSite, tmp_path: Path) -> Iterator[int]:
    """Run a process that has the card's device file open, and show it in the kernel of the test's."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "dev" / "nvidia0")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        (site.places.procfs / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        try:
            yield process.pid
        finally:
            process.communicate(timeout=20)
            (site.places.procfs / str(process.pid)).unlink()


def install(site: GpuSite, **commands: str) -> None:
    """Write units of instances that run a command each."""
    units = site.where.root / site.where.layout.units
    units.mkdir(parents=True, exist_ok=True)
    for unit, command in ((CODE_MAX, commands.get("max")), (CODE_MID, commands.get("mid"))):
        if command:
            (units / unit).write_text(f"[Service]\nType=exec\nTimeoutStopSec=60\nExecStart=:{command}\n")


def lockout_of(site: GpuSite) -> Path:
    return site.where.root / site.where.layout.lockout_folder / "rtx5080@release.json"


def test_what_is_ours_is_stopped_and_the_card_is_free_again_and_again(
    nvml: ScriptedNvml, site: GpuSite, supervisor: SupervisorClient, release: Release
) -> None:
    install(site, max="/bin/sleep 300", mid="/bin/sleep 300")
    supervisor.start(CODE_MAX)
    supervisor.start(CODE_MID)
    nvml.say(f"{CARD} used=0")
    status, found = said(release("--json"))
    assert (status, found["is_free"], found["holders"], found["profile"]) == (0, True, [], "mid")
    # Nobody routes to it, so there is nothing to wait for; what has no share of the card goes on.
    assert (found["stopped"], found["took_s"] < 5) == ([CODE_MAX], True)
    states = supervisor.states((CODE_MAX, CODE_MID))
    assert (states[CODE_MAX].is_up, states[CODE_MID].is_up) == (False, True)
    assert json.loads(lockout_of(site).read_text()) == {"lockout_gpus": ["rtx5080"], "reason": "gaming"}
    again = release()
    assert (again.returncode, "rtx5080 is free, after " in again.stdout) == (0, True)


def test_others_are_named_with_their_process_and_the_exit_code_says_so(
    nvml: ScriptedNvml, site: GpuSite, release: Release, tmp_path: Path
) -> None:
    nvml.say(f"{CARD} used=5000000000", f"process card={UUID} pid=999999 bytes=3000000000 name=/opt/game.exe")
    with a_holder(site, tmp_path) as pid:
        status, found = said(release("--json"))
        user = Path(f"/proc/{pid}").owner()
    assert (status, found["is_free"]) == (3, False)
    opened, holding = sorted(found["holders"], key=lambda one: one["pid"])
    name = holding.pop("name")
    assert (name, holding) == ("game.exe", {"pid": 999999, "user": "", "held_bytes": 3000000000, "unit": ""})
    assert (opened["pid"], opened["user"], opened["held_bytes"], opened["unit"]) == (pid, user, None, "")
    assert opened["name"].startswith("python")
    # Once they are gone, the same command says that it is free.
    nvml.say(f"{CARD} used=0")
    assert release().returncode == 0


def test_an_instance_on_other_cards_that_has_it_open_is_named_as_ours(
    nvml: ScriptedNvml, site: GpuSite, supervisor: SupervisorClient, release: Release, tmp_path: Path
) -> None:
    install(site, mid=f"/bin/sh -c 'exec 9<{tmp_path}/dev/nvidia0; exec sleep 300'")
    supervisor.start(CODE_MID)
    pid = supervisor.states((CODE_MID,))[CODE_MID].main_pid
    (site.places.procfs / str(pid)).symlink_to(f"/proc/{pid}")
    nvml.say(f"{CARD} used=0")
    status, found = said(release("--json"))
    (holder,) = found["holders"]
    assert (status, holder["pid"], holder["unit"]) == (3, pid, CODE_MID)
    assert supervisor.states((CODE_MID,))[CODE_MID].is_up


def test_who_interrupts_it_is_told_how_to_take_the_card_back(
    nvml: ScriptedNvml, site: GpuSite, supervisor: SupervisorClient, tmp_path: Path
) -> None:
    install(site, max=f'{sys.executable} -c "{STUBBORN}"')
    supervisor.start(CODE_MAX)
    nvml.say(f"{CARD} used=0")
    argv = words_of(site, tmp_path, "30s")
    with subprocess.Popen(argv, env=nvml.environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        report = site.where.root / site.where.layout.cards_file
        while not report.exists() or "locked" not in report.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert words == "Error: rtx5080 stays locked out; `kloros-infra gpu return rtx5080` takes it back.\n"
    assert (process.returncode, lockout_of(site).exists()) == (1, True)
    # What ignores that it is to stop does not survive it.
    card = RealCard(site, site.card("rtx5080"), supervisor)
    card.kill((CODE_MAX,))
    while card.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # likewise


def test_without_a_driver_nobody_can_use_it(site: GpuSite, release: Release, nvml: ScriptedNvml) -> None:
    (site.places.procfs / "driver" / "nvidia" / "gpus" / (RTX_5080.pci or "") / "information").unlink()
    nvml.say("init 9")
    status, found = said(release("--json"))
    assert (status, found["is_free"]) == (0, True)


# Root looks into all processes; capabilities(7).
NO_ROOT = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def test_where_nobody_can_say_who_uses_it_it_does_not_count_as_free(
    nvml: ScriptedNvml, site: GpuSite, tmp_path: Path
) -> None:
    need(not NO_ROOT or shutil.which(NO_ROOT[0]) is not None, "setpriv (apt-get install util-linux)")
    hidden = site.places.procfs / "4711" / "fd"
    hidden.mkdir(parents=True)
    hidden.chmod(0)
    nvml.say("init 999")
    argv = [*NO_ROOT, *words_of(site, tmp_path)]
    done = subprocess.run(argv, env=nvml.environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "KI923" in done.stderr, lockout_of(site).exists()) == (1, True, True), done.stderr
    # The driver's word is enough.
    nvml.say(f"{CARD} used=0")
    assert subprocess.run(argv, env=nvml.environment, capture_output=True, check=False, timeout=60).returncode == 0
    hidden.chmod(0o755)


def test_the_commands_work_below_a_root_as_a_user_types_them(site: GpuSite) -> None:
    root = ("--root", site.where.root)
    locked = kloros_infra("gpu", "lock", "rtx5080", "--until", "2h", "--reason", "gaming", *root)
    assert (locked.returncode, locked.stderr) == (0, "")
    assert locked.stdout.startswith("rtx5080 is locked out until ")
    listed = kloros_infra("gpu", "list", *root)
    assert (listed.returncode, "locked out until" in listed.stdout) == (0, True)
    returned = kloros_infra("gpu", "return", "rtx5080", *root)
    assert (returned.returncode, "KI919" in returned.stderr) == (1, True)
    unknown = kloros_infra("gpu", "unlock", "rtx5800", *root)
    assert (unknown.returncode, "Did you mean 'rtx5080'?" in unknown.stderr) == (2, True)
