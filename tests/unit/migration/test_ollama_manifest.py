"""Manifests and the small layers of an Ollama store, whole and broken."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.migration.ollama_manifest import (
    OllamaName,
    is_asked_for,
    name_of,
    parse_config,
    parse_manifest,
    parse_messages,
    parse_parameters,
    sha256_of,
)

LLAMA = OllamaName("registry.ollama.ai", "library", "llama3.2", "latest")
HEX = "ab" * 32


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (("registry.ollama.ai", "library", "llama3.2", "3b"), "llama3.2:3b"),
        (("registry.ollama.ai", "jo", "mario", "latest"), "jo/mario:latest"),
        (("hf.co", "bartowski", "X-GGUF", "Q4_K_M"), "hf.co/bartowski/X-GGUF:Q4_K_M"),
        (("localhost:5000", "library", "x", "y"), "localhost:5000/library/x:y"),
    ],
)
def test_names_are_shown_as_ollama_shows_them(parts: tuple[str, ...], shown: str) -> None:
    name = name_of(parts)
    assert str(name) == shown
    assert name is not None
    assert is_asked_for(name, shown)


@pytest.mark.parametrize(
    "parts",
    [
        ("library", "x", "y"),
        ("host", "li.brary", "x", "y"),
        ("host", "library", "..", "y"),
        ("host", "library", ".x", "y"),
        ("host", "library", "x" * 81, "y"),
        ("host", "library", "x y", "z"),
        ("host", "library", "x\n", "z"),
    ],
)
def test_what_is_no_name_is_none(parts: tuple[str, ...]) -> None:
    assert name_of(parts) is None


@pytest.mark.parametrize(
    ("asked", "is_meant"),
    [
        ("llama3.2", True),
        ("llama3.2:latest", True),
        ("LLAMA3.2", True),
        ("library/llama3.2", True),
        ("registry.ollama.ai/library/llama3.2:latest", True),
        ("llama3.2:3b", False),
        ("jo/llama3.2", False),
        ("a/b/c/d/llama3.2", False),
    ],
)
def test_a_model_is_asked_for_as_in_ollama(asked: str, is_meant: bool) -> None:
    assert is_asked_for(LLAMA, asked) is is_meant


@pytest.mark.parametrize(
    ("digest", "sha256"),
    [
        (f"sha256:{HEX}", HEX),
        (f"sha256-{HEX.upper()}", HEX),
        (f"sha256:{HEX}/../../etc/passwd", None),
        ("sha256:../../etc/passwd", None),
        (f"sha512:{HEX}", None),
        ("", None),
    ],
)
def test_only_a_sha256_is_a_digest(digest: str, sha256: str | None) -> None:
    assert sha256_of(digest) == sha256


def test_a_manifest_of_dockers_form_is_read() -> None:
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{HEX}", "size": 7, "from": "/x"}
    text = json.dumps({"schemaVersion": 2, "mediaType": "…", "config": layer, "layers": [layer], "further": 1})
    manifest, problems = parse_manifest(text, file="m")
    assert problems == ()
    assert manifest is not None
    assert [one.kind for one in manifest.layers] == ["model"]
    assert manifest.config is not None
    assert manifest.config.size == 7


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "not JSON"),
        ('{"layers":\n [}', 2, "not JSON"),
        ("[" * 100_000, 1, "not JSON"),
        ("[]", 1, "the whole"),
        ('{"layers": [{"digest": "x"}]}', 1, "layers.0.mediaType"),
        ('{"layers": "x"}', 1, "layers"),
        ('{"layers": [{"mediaType": 1, "digest": 2, "size": -1}]}', 1, "layers.0.size"),
        (json.dumps({"layers": [{"mediaType": "x", "digest": "y"}] * 257}), 1, "layers"),
    ],
)
def test_a_broken_manifest_is_a_located_warning(text: str, line: int, said: str) -> None:
    manifest, problems = parse_manifest(text, file="/store/manifests/x")
    assert manifest is None
    assert {problem.code for problem in problems} == {"KI541"}
    assert any(said in problem.detail for problem in problems)
    assert problems[0].span is not None
    assert (problems[0].span.file, problems[0].span.line) == ("/store/manifests/x", line)
    assert not any(problem.is_error for problem in problems)


@given(st.text(max_size=200))
def test_no_text_is_too_much_for_a_manifest(text: str) -> None:
    manifest, problems = parse_manifest(text, file="m")
    assert (manifest is None) == bool(problems)


def test_small_layers_are_read() -> None:
    assert parse_parameters('{"stop": ["x"], "temperature": 0.5}', "p") == ({"stop": ["x"], "temperature": 0.5}, ())
    assert parse_messages('[{"role": "user", "content": "hi"}]', "m") == (1, ())
    config, problems = parse_config('{"model_format": "gguf", "rootfs": {}}', file="c")
    assert config is not None
    assert config.model_format == "gguf"
    assert problems == ()


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_broken_parameters_are_told(text: str) -> None:
    found, problems = parse_parameters(text, "p")
    assert not isinstance(found, dict)
    assert [problem.code for problem in problems] == ["KI544"]


@pytest.mark.parametrize("text", ["[", "{}"])
def test_broken_messages_are_told(text: str) -> None:
    count, problems = parse_messages(text, "m")
    assert not count
    assert [problem.code for problem in problems] == ["KI544"]


def test_a_broken_configuration_is_told() -> None:
    config, problems = parse_config('{"model_format": 7}', file="c")
    assert config is None
    assert [problem.code for problem in problems] == ["KI544"]
