"""What a process runs with is held against its unit's files."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.systemd_syntax import env_lines, exec_start
from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.running import RunningProcess
from kloros_infra.ir.unit_keys import env_keys
from kloros_infra.planner.running_drift import ARGUMENTS, IntendedProcess, intended_process, running_drift

UNIT = "[Service]\nEnvironmentFile=/etc/x.env\nExecStart=:/usr/lib/kloros-infra/bin/llama-server --alias small\n"
ENV = "# generated\nCUDA_VISIBLE_DEVICES='GPU-1'\nLLAMA_ARG_CTX_SIZE='2048'\n"
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]) | st.sampled_from(" '\"\\%;#$`"), max_size=30
)
NAMES = st.from_regex(r"LLAMA_ARG_[A-Z]{1,8}X", fullmatch=True)


def running(*argv: str, environment: Mapping[str, str] | None) -> RunningProcess:
    return RunningProcess(42, argv, environment, started_s=1.0, cgroup="/")


def drift(*argv: str, environment: Mapping[str, str] | None) -> tuple[KeyChange, ...]:
    return running_drift(intended_process(UNIT, env_keys(ENV)), running(*argv, environment=environment))


AS_INTENDED = {"CUDA_VISIBLE_DEVICES": "GPU-1", "LLAMA_ARG_CTX_SIZE": "2048"}


@pytest.mark.parametrize(
    "argv",
    [
        ("/opt/llama-server", "--alias", "small"),
        ("/usr/bin/python3", "/opt/stand-in", "--alias", "small"),
    ],
)
def test_what_runs_as_intended_does_not_differ(argv: tuple[str, ...]) -> None:
    assert drift(*argv, environment=AS_INTENDED) == ()


def test_changed_missing_and_unasked_variables_are_listed_by_name() -> None:
    environment = {"LLAMA_ARG_CTX_SIZE": "4096", "GGML_VK_VISIBLE_DEVICES": "1", "HOME": "/"}
    assert drift("/opt/llama-server", "--alias", "small", environment=environment) == (
        KeyChange("CUDA_VISIBLE_DEVICES", None, "GPU-1"),
        KeyChange("GGML_VK_VISIBLE_DEVICES", "1", None),
        KeyChange("LLAMA_ARG_CTX_SIZE", "4096", "2048"),
    )


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (("/opt/llama-server", "--alias", "other"), "--alias other"),
        (("/opt/llama-server", "--alias", "small", "-v"), "small -v"),
        (("/opt/llama-server",), "/opt/llama-server"),
        ((), ""),
    ],
)
def test_other_words_are_shown_beside_the_intended_ones(argv: tuple[str, ...], shown: str) -> None:
    assert drift(*argv, environment=AS_INTENDED) == (KeyChange(ARGUMENTS, shown, "--alias small"),)


def test_variables_that_may_not_be_seen_are_left_out() -> None:
    assert drift("/opt/llama-server", "--alias", "small", environment=None) == ()


def test_secrets_are_neither_compared_nor_shown() -> None:
    intended = IntendedProcess((), {"LLAMA_API_KEY": "s3cret", "LLAMA_ARG_API_KEY_FILE": "/run/key"})
    process = running("/opt/llama-server", environment={"LLAMA_API_KEY": "other"})
    assert running_drift(intended, process) == (KeyChange("LLAMA_ARG_API_KEY_FILE", None, "/run/key"),)


def test_a_unit_without_a_command_intends_nothing() -> None:
    assert intended_process("[Unit]\nDescription=x\n", {}) == IntendedProcess((), {})


def test_a_secret_is_known_by_the_option_before_it_which_is_not_shown() -> None:
    found = running_drift(IntendedProcess(("-v",), {}), running("/bin/x", "--api-key", "hunter2", environment=None))
    assert found == (KeyChange(ARGUMENTS, "(sensitive value)", "-v"),)


def test_secrets_on_a_command_line_are_compared_and_not_shown() -> None:
    intended = IntendedProcess(("--api-key", "one"), {"EXTRA": "--api-key one"})
    process = running("/bin/x", "--api-key", "two", environment={"EXTRA": "--api-key two"})
    found = running_drift(intended, process)
    assert [change.key for change in found] == [ARGUMENTS, "EXTRA"]
    assert not any(word in str(found) for word in ("one", "two"))


@given(st.lists(TEXT, max_size=6), st.dictionaries(NAMES, TEXT, max_size=6))
def test_what_is_emitted_is_read_back_as_it_was_meant(words: list[str], variables: dict[str, str]) -> None:
    unit = f"[Service]\nExecStart={exec_start(('/bin/x', *words))}\n"
    intended = intended_process(unit, env_keys("".join(f"{line}\n" for line in env_lines(variables))))
    assert intended == IntendedProcess(tuple(words), variables)
    assert running_drift(intended, running("/bin/x", *words, environment=variables)) == ()
