"""A container with kloros-infra and the laptop example installed, as an administrator would."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from kloros_infra.client import Addresses, Client
from tests.system.container import PROJECT, Container

PROGRAM = f"{PROJECT}/bin/kloros-infra"
INSIDE = "/etc/kloros"
SMOLLM2_UNIT = "llama@smollm2-cpu_only.service"
GEMMA3_UNIT = "llama@gemma3-cpu_only.service"


def wait_until(condition: Callable[[], bool], *, timeout_s: float, poll_s: float = 0.1) -> None:
    """Poll until a condition holds; fail after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"did not hold within {timeout_s} s"
        time.sleep(poll_s)  # the pause between two polls of a condition with a deadline


class Machine:
    """The container with kloros-infra and the laptop example installed."""

    def __init__(self, container: Container, folder: Path) -> None:
        self.container = container
        self.file = folder / "models.yaml"

    def put(self) -> None:
        """Bring models.yaml to where the machine keeps it."""
        self.container.write(f"{INSIDE}/models.yaml", self.file.read_text())

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change models.yaml on the machine."""
        document = yaml.safe_load(self.file.read_text())
        change(document)
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))
        self.put()

    def kloros_infra(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.container.run([PROGRAM, *words], check=check)

    def apply(self, *words: str) -> str:
        return self.kloros_infra("apply", "--file", f"{INSIDE}/models.yaml", "--yes", *words).stdout

    def try_to_apply(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Apply what may fail."""
        return self.kloros_infra("apply", "--file", f"{INSIDE}/models.yaml", "--yes", *words, check=False)

    @contextmanager
    def edited(self, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
        """Change models.yaml on the machine for a while."""
        before = self.file.read_text()
        self.edit(change)
        try:
            yield
        finally:
            self.file.write_text(before)
            self.put()

    def show(self, unit: str, key: str) -> str:
        return self.container.run(["systemctl", "show", unit, "-p", key, "--value"]).stdout.strip()

    def main_pid(self, unit: str) -> int:
        return int(self.show(unit, "MainPID"))

    def is_active(self, unit: str) -> bool:
        return self.container.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"

    def current(self) -> str:
        """Say which generation is current, as the link beside the generations has it."""
        return self.container.run(["readlink", "/etc/kloros-infra/current"]).stdout.strip().rpartition("/")[2]

    def port_of(self, model: str) -> int:
        models = yaml.safe_load(self.file.read_text())["models"]
        port: int = next(one for one in models if one["id"] == model)["profiles"]["cpu_only"]["port"]
        return port

    def bridge_url(self) -> str:
        port = yaml.safe_load(self.file.read_text())["bridge"]["ports"][0]
        return f"http://127.0.0.1:{port}"

    def units(self, pattern: str) -> dict[str, str]:
        """Map loaded units to their states; systemd may name one whose file is gone for a while yet."""
        listed = self.container.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern]).stdout
        rows = (line.split() for line in listed.splitlines())
        return {row[0]: row[2] for row in rows if row[1] != "not-found"}

    def ask(self, prompt: str, **wishes: Any) -> dict[str, Any]:
        """Ask from outside the container, over the loopback network that it shares."""
        bus = yaml.safe_load(self.file.read_text())["bus"]
        with Client(Addresses(None, bus["xsub"], bus["xpub"])) as client:
            return dict(client.request(prompt, timeout_s=60, **wishes))
