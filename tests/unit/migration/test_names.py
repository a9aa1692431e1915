"""Names of other programs become names of ours, whatever they hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.migration.names import aliases_of, is_alias, is_name, on_one_line


@given(st.text(max_size=400))
def test_what_stays_on_one_line_is_printable(text: str) -> None:
    line = on_one_line(text)
    assert line.isprintable()
    assert line == line.strip()


def test_latest_is_no_name_of_its_own() -> None:
    assert aliases_of(["llama3.2:latest", "llama3.2:3b", "llama3.2"], ["llama3.2"]) == (("llama3.2:3b",), ())


def test_names_that_no_alias_can_be_are_told_apart() -> None:
    assert aliases_of(["_odd", "good"], []) == (("good",), ("_odd",))
    assert not is_alias("with blank")


def test_a_name_of_models_yaml_is_known_as_one() -> None:
    assert is_name("qwen2.5-coder-7b")
    assert not is_name("Qwen")
