"""Ollama's store on disk: what Ollama writes is read, what others plant in it is not followed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kloros_infra.adapters.gguf_file import read_header
from kloros_infra.adapters.ollama_store import OllamaBlobs, find_store, read_store, usual_stores
from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.migration.ollama import OllamaModel
from tests.fakes.gguf_files import write_gguf, write_projector
from tests.ollama_stores import LIBRARY, PREFIX, StoreBuilder


@pytest.fixture
def store(tmp_path: Path) -> StoreBuilder:
    return StoreBuilder(tmp_path / "models")


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "weights.gguf").read_bytes()


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Describe every file of a folder, so that a change of any kind shows."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_mtime_ns, _digest(path))
        for path in sorted(folder.rglob("*"))
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def read(store: StoreBuilder, *asked: str) -> tuple[dict[str, OllamaModel], Problems]:
    before = snapshot(store.folder)
    models, problems = read_store(store.folder, asked, read_header)
    assert snapshot(store.folder) == before
    return {str(model.name): model for model in models}, problems


def codes(problems: Sequence[object]) -> list[str]:
    return [str(getattr(problem, "code", "")) for problem in problems]


def test_a_model_is_read_with_all_its_layers(store: StoreBuilder, weights: bytes, tmp_path: Path) -> None:
    projector = write_projector(tmp_path / "p.gguf").read_bytes()
    store.model(
        f"{LIBRARY}/llava/7b",
        weights,
        projector=projector,
        template="{{ .Prompt }}",
        system="Be kind.",
        parameters={"temperature": 0.5, "stop": ["a", "b"]},
        messages=[{"role": "user", "content": "hi"}],
    )
    models, problems = read(store)
    found = models["llava:7b"]
    assert problems == ()
    assert found.weights[0].sha256 == hashlib.sha256(weights).hexdigest()
    assert Path(found.weights[0].path).read_bytes() == weights
    assert found.projectors[0].size_bytes == len(projector)
    assert found.header is not None
    assert found.header.architecture == "llama"
    assert (found.template, found.system, found.message_count) == ("{{ .Prompt }}", "Be kind.", 1)
    assert found.parameters == {"temperature": 0.5, "stop": ["a", "b"]}
    assert (found.config.model_format, found.config.file_type) == ("gguf", "Q4_1")
    assert (found.is_whole, found.others) == (True, ())


def test_names_of_every_registry_are_read(store: StoreBuilder, weights: bytes) -> None:
    for name in (
        f"{LIBRARY}/a/latest",
        "registry.ollama.ai/jo/b/x",
        "hf.co/owner/C-GGUF/Q4_K_M",
        "localhost:5000/n/d/e",
    ):
        store.model(name, weights)
    models, problems = read(store)
    assert problems == ()
    assert list(models) == ["hf.co/owner/C-GGUF:Q4_K_M", "localhost:5000/n/d:e", "jo/b:x", "a:latest"]


def test_models_are_read_that_are_asked_for(store: StoreBuilder, weights: bytes) -> None:
    for tag in ("latest", "7b"):
        store.model(f"{LIBRARY}/coder/{tag}", weights)
    assert list(read(store, "coder")[0]) == ["coder:latest"]
    models, problems = read(store, "coder:7b", "codr:7b")
    assert list(models) == ["coder:7b"]
    assert codes(problems) == ["KI545"]
    assert "coder:7b" in problems[0].hint
    assert problems[0].is_error


def test_files_of_older_versions_have_a_colon(store: StoreBuilder, weights: bytes) -> None:
    store.model(f"{LIBRARY}/old/latest", weights)
    for blob in list((store.folder / "blobs").iterdir()):
        blob.rename(blob.with_name(blob.name.replace("-", ":")))
    models, problems = read(store)
    assert problems == ()
    assert models["old:latest"].weights[0].path.endswith(hashlib.sha256(weights).hexdigest())


def test_a_model_without_weights_is_read_too(store: StoreBuilder) -> None:
    store.model(f"{LIBRARY}/cloud/latest", None, config={"remote_host": "https://ollama.com"})
    models, problems = read(store)
    assert problems == ()
    assert (models["cloud:latest"].weights, models["cloud:latest"].header) == ((), None)


def test_adapters_and_unknown_layers_are_named(store: StoreBuilder, weights: bytes) -> None:
    store.model(f"{LIBRARY}/lora/latest", weights, adapter=b"GGUF")
    assert read(store)[0]["lora:latest"].others == ("adapter",)


def test_a_manifest_without_a_configuration_is_read(store: StoreBuilder, weights: bytes) -> None:
    store.manifest(f"{LIBRARY}/bare/latest", json.dumps({"layers": [store.layer("model", weights)]}))
    models, problems = read(store)
    assert problems == ()
    assert models["bare:latest"].config.model_format == ""


def test_what_is_wrong_with_one_does_not_keep_the_others_back(store: StoreBuilder, weights: bytes) -> None:
    store.model(f"{LIBRARY}/good/latest", weights)
    file = store.manifest(f"{LIBRARY}/bad/latest", '{"layers": [')
    store.manifest(f"{LIBRARY}/.hidden/latest", "{}")
    models, problems = read(store)
    assert list(models) == ["good:latest"]
    assert codes(problems) == ["KI541", "KI541"]
    assert any(problem.span is not None and problem.span.file == str(file) for problem in problems)
    assert not any(problem.is_error for problem in problems)


def test_a_pull_that_was_interrupted_is_told(store: StoreBuilder, weights: bytes) -> None:
    store.model(f"{LIBRARY}/gone/latest", weights)
    store.model(f"{LIBRARY}/half/latest", weights + b"more")
    (store.folder / "blobs" / f"sha256-{hashlib.sha256(weights).hexdigest()}").unlink()
    (store.folder / "blobs" / f"sha256-{hashlib.sha256(weights + b'more').hexdigest()}").write_bytes(weights)
    models, problems = read(store)
    assert codes(problems) == ["KI543", "KI543"]
    assert [(model.weights, model.is_whole) for model in models.values()] == [((), False), ((), False)]


def test_weights_that_are_no_gguf_are_told_once(store: StoreBuilder) -> None:
    for tag in ("a", "b"):
        store.model(f"{LIBRARY}/odd/{tag}", b"no gguf at all")
    models, problems = read(store)
    assert codes(problems) == ["KI313"]
    assert not problems[0].is_error
    assert [model.header for model in models.values()] == [None, None]


@pytest.mark.parametrize("kind", ["system", "params", "messages", "config", "template"])
def test_a_broken_small_layer_is_told_and_left_out(store: StoreBuilder, weights: bytes, kind: str) -> None:
    layers = [store.layer("model", weights)]
    broken = store.layer(kind, b"\xff\xfe")
    manifest = {"config": broken, "layers": layers} if kind == "config" else {"layers": [*layers, broken]}
    store.manifest(f"{LIBRARY}/x/latest", json.dumps(manifest))
    models, problems = read(store)
    assert codes(problems) == ["KI544"]
    assert models["x:latest"].header is not None


def test_a_huge_small_layer_is_not_taken_in(store: StoreBuilder, weights: bytes) -> None:
    layers = [store.layer("model", weights), store.layer("system", b"a" * (2**20 + 1))]
    store.manifest(f"{LIBRARY}/x/latest", json.dumps({"layers": layers}))
    store.manifest(f"{LIBRARY}/y/latest", " " * (2**20 + 1))
    assert codes(read(store)[1]) == ["KI544", "KI544"]


@pytest.mark.parametrize(
    "digest", ["sha256:../../../../etc/passwd", "../../etc/passwd", "sha256:" + "z" * 64, f"sha256:{'a' * 64}/x", ""]
)
def test_a_digest_is_no_path(store: StoreBuilder, digest: str) -> None:
    layer = {"mediaType": f"{PREFIX}system", "digest": digest, "size": 0}
    store.manifest(f"{LIBRARY}/x/latest", json.dumps({"layers": [layer]}))
    models, problems = read(store)
    assert codes(problems) == ["KI542"]
    assert models["x:latest"].system == ""


@pytest.mark.parametrize("kind", ["system", "model"])
def test_a_link_out_of_the_store_is_not_followed(store: StoreBuilder, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    layer = store.layer(kind, b"hidden")
    blob = store.folder / "blobs" / layer["digest"].replace(":", "-")
    blob.unlink()
    blob.symlink_to(secret)
    store.manifest(f"{LIBRARY}/x/latest", json.dumps({"layers": [layer]}))
    models, problems = read(store)
    assert codes(problems) == ["KI542"]
    assert (models["x:latest"].system, models["x:latest"].weights) == ("", ())


def test_a_manifest_that_is_a_link_out_of_the_store_is_not_read(store: StoreBuilder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}")
    file = store.manifest(f"{LIBRARY}/x/latest", "{}")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert codes(read(store)[1]) == ["KI542"]


def test_links_within_the_store_and_of_its_folders_are_followed(
    store: StoreBuilder, weights: bytes, tmp_path: Path
) -> None:
    store.model(f"{LIBRARY}/x/latest", weights)
    blobs = store.folder / "blobs"
    name = f"sha256-{hashlib.sha256(weights).hexdigest()}"
    (blobs / name).rename(blobs / "moved")
    (blobs / name).symlink_to("moved")
    blobs.rename(tmp_path / "disk")
    blobs.symlink_to(tmp_path / "disk")
    models, problems = read(store)
    assert problems == ()
    assert models["x:latest"].weights[0].path == str(tmp_path / "disk" / "moved")


def test_a_link_in_a_circle_and_a_pipe_are_told(store: StoreBuilder) -> None:
    circle = store.manifest(f"{LIBRARY}/a/latest", "{}")
    circle.unlink()
    circle.symlink_to(circle.name)
    pipe = store.manifest(f"{LIBRARY}/b/latest", "{}")
    pipe.unlink()
    os.mkfifo(pipe)
    assert codes(read_store(store.folder, (), read_header)[1]) == ["KI543", "KI542"]


def test_a_path_that_models_yaml_cannot_hold_is_told(tmp_path: Path, weights: bytes) -> None:
    store = StoreBuilder(tmp_path / "new\nline")
    store.model(f"{LIBRARY}/x/latest", weights)
    assert codes(read(store)[1]) == ["KI542"]


def test_the_store_is_looked_for_where_ollama_looks(tmp_path: Path) -> None:
    home, named = tmp_path / "home", tmp_path / "named"
    assert usual_stores({}, home)[0] == home / ".ollama/models"
    assert usual_stores({"OLLAMA_MODELS": f'"{named}" '}, home)[0] == named
    assert Path("/usr/share/ollama/.ollama/models") in usual_stores({}, home)
    StoreBuilder(home / ".ollama/models")
    assert find_store([named, home / ".ollama/models"]) == (home / ".ollama/models").resolve()
    with pytest.raises(ObstacleError) as raised:
        find_store([named])
    assert codes(raised.value.problems) == ["KI540"]
    assert str(named) in raised.value.problems[0].detail


def test_the_stores_files_vouch_for_themselves(store: StoreBuilder, weights: bytes) -> None:
    store.model(f"{LIBRARY}/x/latest", weights)
    models, _ = read(store)
    source = OllamaBlobs(list(models.values()))
    url = models["x:latest"].weights[0].source
    assert source.handles(url)
    assert not source.handles("file:///elsewhere")
    facts = source.look(url)
    assert (facts.origin, facts.revision, facts.size_bytes) == (Origin.FILE, None, len(weights))
    assert facts.sha256 == hashlib.sha256(weights).hexdigest()
    assert source.read(url, None, start=0, length=4) == b"GGUF"
    assert b"".join(source.pieces(url, None)) == weights
    Path(url.removeprefix("file://")).unlink()
    with pytest.raises(UnreachableError):
        source.read(url, None, start=0, length=4)
