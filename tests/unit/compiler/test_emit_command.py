"""The words that llama-server is started with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.emit_command import argument_words, server_words
from kloros_infra.compiler.systemd_syntax import exec_start
from kloros_infra.ir.catalog import ArgumentValue, Instance
from kloros_infra.ir.config_models import parse_argument
from kloros_infra.placement.place import place
from kloros_infra.supervisor.command_line import Command, parse_commands
from tests.factories import a_card, a_draft, a_model, a_profile, a_serving, an_instance


def words(instance: Instance) -> tuple[str, ...]:
    """Place an instance and list its words."""
    placement, problems = place(instance)
    assert placement, problems
    return server_words(instance, placement)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mlock", True, ["--mlock"]),
        ("mmap", False, ["--no-mmap"]),
        ("no-mmap", True, ["--no-mmap"]),
        ("threads", 8, ["--threads", "8"]),
        ("seed", -1, ["--seed", "-1"]),
        ("temp", 0.5, ["--temp", "0.5"]),
        ("samplers", "top_k;temperature", ["--samplers", "top_k;temperature"]),
        ("dry-sequence-breaker", ('"', 1), ["--dry-sequence-breaker", '"', "--dry-sequence-breaker", "1"]),
        ("grammar", "", ["--grammar", ""]),
    ],
)
def test_an_argument_is_written_as_llama_server_takes_it(name: str, value: ArgumentValue, expected: list[str]) -> None:
    assert list(argument_words(name, value)) == expected


def test_further_arguments_come_last_and_by_name() -> None:
    instance = an_instance(serving=a_serving(arguments={"threads": 4, "no-mmap": True}))

    assert words(instance) == ("--alias", "small", "--no-mmap", "--threads", "4")


def test_a_draft_model_is_told_its_device() -> None:
    on_card = an_instance(a_model(draft=a_draft()), a_profile("max", a_card("a"), a_card("b")))
    on_cpu = replace(on_card, profile=a_profile())

    assert words(on_card) == ("--alias", "small", "--spec-draft-device", "CUDA0")
    assert words(on_cpu) == ("--alias", "small", "--spec-draft-device", "none")


SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=60)
VALUES = SCALARS | st.lists(st.integers() | st.text(max_size=20), min_size=1, max_size=4)


@given(st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True), VALUES)
def test_every_accepted_value_arrives_as_it_was_written(name: str, value: object) -> None:
    try:
        accepted = parse_argument(value)
    except ValueError:
        return
    expected = ("/bin/llama-server", *argument_words(name, accepted))

    assert parse_commands(exec_start(expected), {"%": "%"}) == (Command(expected),)
