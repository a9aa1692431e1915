"""EnvironmentFile=: the corners of systemd.exec(5), and what our compiler writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.systemd_syntax import CONTROL, env_lines
from kloros_infra.ir.environment_file import parse_environment_file

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda value: not CONTROL.search(value))


@given(st.dictionaries(NAMES, VALUES))
def test_what_the_compiler_writes_is_read_back(variables: dict[str, str]) -> None:
    assert parse_environment_file("".join(f"{line}\n" for line in env_lines(variables))) == variables


@given(st.text())
def test_no_text_stops_the_reader(text: str) -> None:
    assert all("=" not in name for name in parse_environment_file(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=plain", "plain"),
        ("A = padded \t\n", "padded"),
        ("A=", ""),
        ("A=\n", ""),
        (r"A=blk\.0", "blk.0"),
        (r"A='blk\.0,x'", r"blk\.0,x"),
        (r'A="blk\.0 \"q\" \$x \`y\` \\"', 'blk\\.0 "q" $x `y` \\'),
        ("A='two\nlines'", "two\nlines"),
        ('A="joined \\\nline"', "joined line"),
        ("A=joined \\\nline", "joined line"),
        ("A='a' \"b\"c", "abc"),
        ('A=x"y"', 'x"y"'),
        ("A=a # no comment", "a # no comment"),
        ("# A=0\n; A=1\nA=2", "2"),
        ("A=$HOME $(id)", "$HOME $(id)"),
        ("A=1\nA=2", "2"),
        (r"A=\$x", "$x"),
        ("A=kept\\ \n", "kept "),
        ("junk\nA=after junk", "after junk"),
    ],
)
def test_values(text: str, value: str) -> None:
    assert parse_environment_file(text) == {"A": value}


@pytest.mark.parametrize("text", ["export X=1", "1X=2", "X-Y=3", "no assignment", "", "#X=1"])
def test_lines_without_a_variable_name_are_left_out(text: str) -> None:
    assert parse_environment_file(text) == {}
