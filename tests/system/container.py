"""A real systemd as process 1 in a container whose root is this machine's, seen through a throw-away overlay.

The container shares the network, so that a request from outside reaches a service inside; nothing that is enabled on
this machine is started in it. Everything happens in a mount namespace of its own and with the real root read-only
below the overlay: whatever goes wrong, this machine's files stay as they are and no mount is left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BOOT_S = 60.0
END_S = 30.0
POLL_S = 0.05
PROJECT = "/opt/kloros-infra"
# Booted units of the machine that the container needs; everything else that is enabled is masked.
NEEDED = frozenset({"dbus.service"})
TOOLS = ("systemd-nspawn", "nsenter", "unshare", "setpriv")
# The bind mount is private to the namespace that `unshare` makes, and read-only: the overlay takes all writes.
BOOT = """
mount --bind / "$0" && mount -o remount,bind,ro "$0" && exec systemd-nspawn -D "$0" --volatile=overlay -b "$@"
"""


def missing_for_systemd() -> str:
    """Say what is missing to boot a container; empty when nothing is."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(absent)} (apt-get install systemd-container)" if absent else ""


@dataclass(frozen=True, slots=True)
class Container:
    """A booted container; `leader` is its process 1 as seen from outside."""

    leader: int

    def run(
        self, argv: Sequence[str], *, check: bool = True, text: str = "", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, with `text` on its stdin; with `check` its failure is ours, output shown."""
        enter = ("nsenter", "-t", str(self.leader), "-m", "-p", "-u", "-i", "--")
        clean = ("env", "-i", "-C", "/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")
        done = subprocess.run(
            [*enter, *clean, *argv], input=text, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{list(argv)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def outside(self, path: str) -> Path:
        """Say where this machine sees a file of the container."""
        return Path(f"/proc/{self.leader}/root{path}")

    def copy_in(self, source: Path, destination: str) -> None:
        """Copy a file of this machine into the container, where folders such as /tmp are its own."""
        enter = ("nsenter", "-t", str(self.leader), "-m", "--", "tee", destination)
        subprocess.run(enter, input=source.read_bytes(), stdout=subprocess.DEVNULL, check=True)

    def write(self, destination: str, text: str) -> None:
        """Write a file inside, making its folder."""
        self.run(["mkdir", "-p", str(Path(destination).parent)])
        self.run(["tee", destination], text=text)


@contextmanager
def scratch(container: Container, units: Sequence[str], folders: Sequence[str]) -> Iterator[Container]:
    """Lend a container to tests that put files there by hand; end their units and take the folders away afterwards."""
    try:
        yield container
    finally:
        container.run(["systemctl", "stop", *units], check=False)
        container.run(["rm", "-rf", "--", *folders])
        container.run(["systemctl", "daemon-reload"])


@contextmanager
def booted(binds: Mapping[Path, str]) -> Iterator[Container]:
    """Boot a container that sees folders of this machine read-only at given places; end it afterwards."""
    name = f"kloros-test-{os.getpid()}"
    root = Path(tempfile.mkdtemp(prefix="kloros-systemd-"))
    options = ("--machine", name, "--register=no", "--keep-unit", "--link-journal=no", "--quiet")
    bind_options = [f"--bind-ro={source}:{place}" for source, place in binds.items()]
    # setpriv: should this process be killed, nspawn ends too, and the container with it.
    isolate = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--")
    argv = [*isolate, "/bin/sh", "-c", BOOT, str(root), *options, *bind_options, *mask_arguments()]
    with tempfile.TemporaryFile() as console:
        nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        leader = 0
        try:
            try:
                leader = await_boot(nspawn)
            except TimeoutError as error:
                console.seek(0)
                raise AssertionError(f"{error}; its console:\n{console.read().decode(errors='replace')}") from None
            yield Container(leader)
        finally:
            end(nspawn, leader)
            # Only ever an empty folder: the mount on it was never visible here.
            root.rmdir()
            with suppress(OSError):
                Path(f"/run/systemd/nspawn/propagate/{name}").rmdir()


def mask_arguments() -> tuple[str, ...]:
    """Mask what is enabled on this machine: on its network, a second server of each kind would be in the way."""
    enabled = {path.name for path in Path("/etc/systemd/system").glob("*.wants/*") if path.suffix != ".target"}
    scripts = {f"{path.name[3:]}.service" for path in Path("/etc").glob("rc[2-5].d/S*")}
    return tuple(f"systemd.mask={unit}" for unit in sorted((enabled | scripts) - NEEDED))


def await_boot(nspawn: subprocess.Popen[bytes]) -> int:
    """Wait until the container has booted; give its process 1."""
    deadline = time.monotonic() + BOOT_S
    while time.monotonic() < deadline:
        if nspawn.poll() is not None:
            raise TimeoutError(f"systemd-nspawn ended with {nspawn.returncode}")
        leader = first_child(nspawn.pid)
        if (
            leader
            and Container(leader).run(["systemctl", "is-active", "multi-user.target"], check=False).returncode == 0
        ):
            return leader
        time.sleep(POLL_S)  # the pause between two polls of a condition with a deadline
    end(nspawn, first_child(nspawn.pid))
    raise TimeoutError(f"the container did not boot within {BOOT_S:.0f} s")


def is_booted(leader: int) -> bool:
    """Say whether multi-user.target is up."""
    return Container(leader).run(["systemctl", "is-active", "multi-user.target"], check=False).returncode == 0


def first_child(pid: int) -> int:
    """Give the first child of a process, 0 when it has none."""
    with suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0
    return 0


def end(nspawn: subprocess.Popen[bytes], leader: int) -> None:
    """End the container: with its process 1 the kernel ends all others in it, and nspawn clears up."""
    if nspawn.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(leader or nspawn.pid, 9)
    try:
        nspawn.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        nspawn.wait()


def install_project(container: Container, wheel: Path, site_packages: str) -> None:
    """Install a wheel into a virtual environment of its own inside.

    `site_packages` is a folder inside with all dependencies and pip, made for the same version of Python.
    """
    inside = f"/var/tmp/{wheel.name}"
    container.copy_in(wheel, inside)
    container.run(["/usr/bin/python3", "-m", "venv", "--without-pip", PROJECT])
    pip = ["/usr/bin/python3", "-m", "pip", "-q", "--python", f"{PROJECT}/bin/python"]
    install = ["install", "--no-deps", "--no-index", "--root-user-action=ignore", inside]
    container.run(["env", f"PYTHONPATH={site_packages}", *pip, *install])
    purelib = [f"{PROJECT}/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    folder = container.run(purelib).stdout.strip()
    container.write(f"{folder}/dependencies.pth", f"{site_packages}\n")
