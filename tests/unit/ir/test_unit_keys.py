"""Settings read from unit and env files, and which of them a running unit must be restarted for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.systemd_syntax import env_value
from kloros_infra.ir.plan import KeyChange
from kloros_infra.ir.unit_keys import (
    Effect,
    effect_of,
    env_keys,
    environment_files,
    key_changes,
    restart_keys,
    unit_keys,
)

UNIT = """\
# a comment
[Unit]
Description=one
[Service]
; another
ExecStart=:/bin/x "--a" \\
  # dropped, even here
  b
Environment=A=1
Environment=B=2
nonsense
X-Own=1
"""


def test_a_unit_is_read_as_systemd_reads_it() -> None:
    assert unit_keys(UNIT) == {
        "Unit.Description": "one",
        "Service.ExecStart": ':/bin/x "--a"  b',
        "Service.Environment": "A=1\nB=2",
        "Service.X-Own": "1",
    }


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("Description=one", "Description=two", set()),
        ("# a comment", "# other words", set()),
        ("Description=one", "Description=one\nPartOf=x.target\nAfter=y.service", set()),
        ("X-Own=1", "X-Own=2", set()),
        ("[Unit]", "[X-Ours]\nA=1\n[Unit]", set()),
        ("nonsense", "[Install]\nWantedBy=multi-user.target", set()),
        ("Environment=A=1\n", "", {"Service.Environment"}),
        ("A=1\nEnvironment=B=2", "B=2\nEnvironment=A=1", {"Service.Environment"}),
        ('"--a"', '"--z"', {"Service.ExecStart"}),
        ("nonsense", "MemoryMax=1G\nTasksMax=9", set()),
        ("nonsense", "LimitNOFILE=9", {"Service.LimitNOFILE"}),
    ],
)
def test_only_what_a_process_starts_with_asks_for_a_restart(old: str, new: str, keys: set[str]) -> None:
    assert old in UNIT
    assert restart_keys(UNIT, UNIT.replace(old, new)) == keys


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        ("Unit.Description", Effect.NONE),
        ("Unit.X-Kloros-Vram", Effect.NONE),
        ("X-Ours.A", Effect.NONE),
        ("Unit.After", Effect.RELOAD),
        ("Install.WantedBy", Effect.RELOAD),
        ("Service.CPUWeight", Effect.LIVE),
        ("Service.ExecStart", Effect.RESTART),
        ("Timer.OnCalendar", Effect.RESTART),
    ],
)
def test_a_key_reaches_a_running_unit_in_one_way(key: str, effect: Effect) -> None:
    assert effect_of(key) is effect


def test_an_env_file_is_read_as_the_process_gets_it() -> None:
    text = "# c\n; c\n\nA='one two'\nB = 2\nno equals sign\nA=\"three\"\n"
    assert env_keys(text) == {"A": "three", "B": "2"}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_what_compile_quotes_is_read_as_it_was(value: str) -> None:
    assert env_keys(f"A={env_value(value)}\n") == {"A": value}


@pytest.mark.parametrize("mark", ["\u2028", "\x0b", "\x85", "\x1c"])
def test_only_a_line_feed_ends_a_line(mark: str) -> None:
    assert unit_keys(f"[Unit]\nDescription=a{mark}X=1\n") == {"Unit.Description": f"a{mark}X=1"}
    assert env_keys(f"A=one{mark}B=2\n") == {"A": f"one{mark}B=2"}


@given(st.dictionaries(st.text("abc", max_size=2), st.text("xy", max_size=1)))
def test_nothing_differs_from_itself(values: dict[str, str]) -> None:
    assert key_changes(values, values) == ()


def test_changes_are_sorted_and_say_what_is_absent() -> None:
    assert key_changes({"b": "1", "a": "1", "c": "1"}, {"b": "2", "d": "1", "c": "1"}) == (
        KeyChange("a", "1", None),
        KeyChange("b", "1", "2"),
        KeyChange("d", None, "1"),
    )


def test_env_files_are_listed_without_the_mark_for_optional_ones() -> None:
    assert environment_files("[Service]\nEnvironmentFile=/a\nEnvironmentFile=-/b\n") == ("/a", "/b")
    assert environment_files("[Service]\nEnvironmentFile=\n") == ()
    assert environment_files("") == ()
