"""Preset files of llama-server's router mode, by llama.cpp's own grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.migration.described import Described
from kloros_infra.migration.llama_presets import describe_llama_presets


def described(text: str) -> tuple[dict[str, Described], Problems]:
    found, problems = describe_llama_presets(text, file="p.ini")
    return {one.name: one for one in found}, problems


def test_sections_are_models_and_stars_hold_for_all() -> None:
    models, problems = described(
        "; a comment\nversion = 1\n\n[*]\nc = 4096\nmlock = true\nnp=2\n"
        "[small]\nmodel = /w/a b.gguf ; behind\nLLAMA_ARG_CTX_SIZE = 8192\nno-kv-unified=1\nload-on-startup = true\n"
        "[ big one ]  # behind\r\nm = /w/c.gguf\nstop-timeout = 30\nalias = x, y\n"
    )
    assert problems == ()
    small, big = models["small"].served, models["big one"].served
    assert small.weights == "file:///w/a b.gguf"
    assert (small.context_per_request, small.preload) == (4096, True)
    assert (big.context_per_request, big.preload, big.drain_s) == (2048, None, 30)
    assert big.aliases == ("x", "y")
    assert small.arguments == big.arguments == {"mlock": True}


def test_keys_before_any_section_are_a_model_of_their_own() -> None:
    assert described("version = 1\nmodel = /w/x.gguf\n")[0].keys() == {"default"}
    assert described("version = 1\n")[0] == {}
    assert described("")[0] == {}


def test_a_value_ends_before_a_comment_and_may_be_empty() -> None:
    models, problems = described("[m]\nmodel = /w/x;y#z\ngrammar =\n")
    assert problems == ()
    assert models["m"].served.weights == "file:///w/x"
    assert models["m"].served.arguments == {"grammar": ""}


def test_what_comes_again_replaces_and_is_told() -> None:
    models, problems = described("[m]\nmodel = /a\nc = 1\nc = 2\n[m]\nmodel = /b\n")
    assert models["m"].served.weights == "file:///b"
    assert models["m"].served.context_tokens is None
    assert [(problem.code, str(problem.span), problem.is_error) for problem in problems] == [
        ("KI553", "p.ini:4:1", False),
        ("KI553", "p.ini:5:1", False),
    ]


def test_spellings_of_the_same_option_replace_each_other() -> None:
    assert described("[*]\nctx-size = 1024\n[m]\nc = 4096\nmodel = /x\n")[0]["m"].served.context_tokens == 4096


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("  c = 1", "2:3", "first character"),
        ("--ctx-size = 1", "2:1", "no dashes"),
        ("ctx-size 1", "2:1", "neither"),
        ("[open", "2:1", "neither"),
        ("[]", "2:1", "neither"),
        ("= 1", "2:1", "neither"),
    ],
)
def test_a_line_that_llama_server_refuses_is_located(line: str, place: str, said: str) -> None:
    _, problems = described(f"[m]\n{line}\nmodel = /x\nbad one\n")
    assert [problem.code for problem in problems] == ["KI552", "KI552"]
    assert str(problems[0].span) == f"p.ini:{place}"
    assert said in problems[0].detail
    assert has_errors(problems)


def test_a_huge_file_is_refused() -> None:
    _, problems = described("x" * (2**20 + 1))
    assert [problem.code for problem in problems] == ["KI552"]


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    describe_llama_presets(text, file="p.ini")
