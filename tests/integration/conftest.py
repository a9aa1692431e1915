"""A small project on free ports, and the command line as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kloros_infra.cli.wiring import Target
from tests.free_ports import free_ports
from tests.tiny_site import end, target_at
from tests.warm_commands import run_command

CHECKOUT = Path(__file__).parents[2]
LAPTOP = CHECKOUT / "examples" / "laptop"
SMOLLM2 = "smollm2-135m-instruct-q4_1"
GEMMA3 = "gemma3-270m-q4_k_m"

Edit = Callable[[dict[str, object]], object]


def kloros_infra(*words: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `kloros-infra` as a user does, without a terminal."""
    return run_command("kloros-infra", *words, timeout_s=timeout_s)


def modelctl(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `modelctl` as a user does."""
    return run_command("modelctl", *words)


def processes_naming(text: str) -> list[str]:
    """List the command lines of live processes that mention a text, such as a root folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if line and (text in line or text in environment):
            found.append(f"{entry.name} {line}")
    return found


@dataclass(frozen=True)
class Laptop:
    """The laptop example in a folder of its own, on free ports, and a root to apply it to."""

    folder: Path
    root: Path

    @property
    def file(self) -> Path:
        return self.folder / "models.yaml"

    def document(self) -> dict[str, object]:
        document: dict[str, object] = yaml.safe_load(self.file.read_text())
        return document

    def edit(self, change: Edit) -> None:
        """Change models.yaml through its parsed document."""
        document = self.document()
        change(document)
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def run(self, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return kloros_infra(command, "--file", self.file, *words)

    def apply(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("apply", "--root", self.root, "--yes", *words)

    def destroy(self) -> subprocess.CompletedProcess[str]:
        return kloros_infra("destroy", "--root", self.root, "--yes")

    def port_of(self, model: str) -> int:
        models = self.document()["models"]
        assert isinstance(models, list)
        port: int = next(m for m in models if m["id"] == model)["profiles"]["cpu_only"]["port"]
        return port

    def bridge_port(self) -> int:
        bridge = self.document()["bridge"]
        assert isinstance(bridge, dict)
        port: int = bridge["ports"][0]
        return port

    def root_files(self) -> list[str]:
        """List what lies below the root, apart from logs and locks."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


def only(model: str) -> Edit:
    """Make an edit that keeps one model, and the purposes and personas that need no other."""

    def change(document: dict[str, object]) -> None:
        for section in ("models", "personas"):
            entries = document[section]
            assert isinstance(entries, list)
            document[section] = [entry for entry in entries if model in (entry["id"], entry.get("base_model"))]
        document["purposes"] = {"fast": {"candidates": [model], "default": True}}

    return change


def on_free_ports(document: dict[str, object]) -> None:
    """Move every port of the laptop example to one that is free."""
    models = document["models"]
    assert isinstance(models, list)
    xsub, xpub, direct, bridge, *ports = free_ports(4 + len(models))
    addresses = {"xsub": xsub, "xpub": xpub, "direct": direct}
    document["bus"] = {name: f"tcp://127.0.0.1:{port}" for name, port in addresses.items()}
    document["bridge"] = {"ports": [bridge]}
    for model, port in zip(models, ports, strict=True):
        model["profiles"]["cpu_only"]["port"] = port


def with_one_thread(document: dict[str, object]) -> None:
    """Keep servers off each other: on a busy machine, threads that wait for each other take seconds to load a model."""
    models = document["models"]
    assert isinstance(models, list)
    for model in models:
        model["arguments"] = {"threads": 1}


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    with a_laptop(tmp_path) as one:
        yield one


@contextmanager
def a_laptop(tmp_path: Path) -> Iterator[Laptop]:
    """Give a laptop whose root is destroyed at the end."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(LAPTOP / "models.yaml", folder)
    shutil.copy(LAPTOP / "models.lock.yaml", folder)
    shutil.copytree(LAPTOP / "models.lock", folder / "models.lock")
    one = Laptop(folder, tmp_path / "root")
    one.edit(on_free_ports)
    one.edit(with_one_thread)
    yield one
    if one.root.exists():
        one.destroy()
    assert not processes_naming(str(one.root))


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Target]:
    """Give a target below an empty folder; end its supervisor afterwards."""
    one = target_at(tmp_path / "root")
    yield one
    end(one)
