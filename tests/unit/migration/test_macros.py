"""llama-swap's macros, as llama-swap itself puts them in."""

from __future__ import annotations

from typing import Any

import pytest

from kloros_infra.compiler.source import read
from kloros_infra.diagnostics import Problems
from kloros_infra.migration.macros import expand, unfilled


def expanded(text: str, **environment: str) -> tuple[Any, Problems]:
    source, problems = read(text, file="config.yaml")
    assert source is not None, problems
    return expand(source, environment)


def command(text: str, **environment: str) -> str:
    tree, problems = expanded(text, **environment)
    assert problems == ()
    found: str = tree["models"]["m"]["cmd"]
    return found


def test_macros_use_those_before_them_and_a_models_own_take_their_place() -> None:
    text = """
macros:
  ctx: 4096
  args: --ctx-size ${ctx} --alias ${MODEL_ID}
models:
  m:
    macros: {ctx: 16384, more: --jinja}
    cmd: serve ${args} ${more} --port ${PORT}
"""
    assert command(text) == "serve --ctx-size 16384 --alias m --jinja --port ${PORT}"


def test_a_text_that_is_one_macro_becomes_its_value() -> None:
    tree, problems = expanded(
        "macros: {t: 60, on: true}\nmodels: {m: {ttl: '${t}', cmd: 'x ${on}'}}\nglobalTTL: '${t}'"
    )
    assert problems == ()
    assert tree["models"]["m"] == {"ttl": 60, "cmd": "x true"}
    assert tree["globalTTL"] == 60


def test_numbers_are_written_as_go_writes_them() -> None:
    text = "macros: {a: 1.50, b: 1e3, c: 7, d: 1e30}\nmodels: {m: {cmd: 'p ${a} ${b} ${c} ${d}'}}"
    assert command(text) == "p 1.5 1000 7 1e+30"


def test_lists_mappings_and_their_keys_are_filled() -> None:
    tree, problems = expanded("models: {m: {aliases: ['${MODEL_ID}-a'], filters: {by: {'${MODEL_ID}:hi': {a: 1}}}}}")
    assert problems == ()
    assert tree["models"]["m"] == {"aliases": ["m-a"], "filters": {"by": {"m:hi": {"a": 1}}}}


def test_the_environment_is_put_in_first() -> None:
    text = "macros: {dir: '${env.HOME}/models'}\nmodels: {m: {cmd: 'x -m ${dir}/${env.NAME}'}}"
    assert command(text, HOME="/home/me", NAME="a.gguf") == "x -m /home/me/models/a.gguf"


def test_comments_of_commands_go_before_macros_are_put_in() -> None:
    assert command("models:\n  m:\n    cmd: |\n      # ${nope}\n      x\n") == "x\n"


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("models: {m: {cmd: 'x ${nope}'}}", "KI548", "1:19"),
        ("logLevel: ${nope}", "KI548", "1:11"),
        ("models: {m: {cmd: '${env.NOPE}'}}", "KI549", "1:19"),
        ("macros: {'no blanks': x}", "KI550", "1:23"),
        ("macros: {PORT: 1}", "KI550", "1:16"),
        ("macros: {a: [1]}", "KI550", "1:10"),
        ("macros: {a: 'x ${a}'}", "KI550", "1:13"),
    ],
)
def test_what_is_wrong_is_located(text: str, code: str, place: str) -> None:
    _, problems = expanded(text)
    assert [(problem.code, str(problem.span)) for problem in problems] == [(code, f"config.yaml:{place}")]


def test_macros_cannot_grow_without_end() -> None:
    lines = [f"  m{number}: '{f'${{m{number - 1}}}' * 9}'" for number in range(1, 20)]
    text = "\n".join(["macros:", "  m0: xxxxxxxxxx", *lines, "models: {m: {cmd: '${m19}'}}"])
    tree, problems = expanded(text)
    assert [problem.code for problem in problems] == ["KI550"]
    assert tree["models"]["m"]["cmd"] == "${m19}"


@pytest.mark.parametrize("text", ["- a list", "models: [a]", "models: {m: 3}", "macros: 3"])
def test_what_has_another_form_is_left_to_the_specs(text: str) -> None:
    tree, problems = expanded(text)
    assert problems == ()
    assert tree == expanded(text)[0]


def test_what_nothing_filled_in_is_named() -> None:
    assert unfilled("a ${PORT} ${PID}") is None
    assert unfilled("a ${b}") == "${b}"
    assert unfilled("a ${env.B}") == "${env.B}"
