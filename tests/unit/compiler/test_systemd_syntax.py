"""Whatever is written is read back unchanged, by readers that follow systemd's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.systemd_syntax import CONTROL, env_lines, env_value, exec_start, exec_word, unit_value
from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.supervisor.command_line import expand_specifiers, parse_commands
from kloros_infra.supervisor.unit_file import parse_unit_file

# Surrogates cannot be written as UTF-8, noncharacters (of Cn) are refused; what matters to some parser comes often.
LINES = st.text(
    st.one_of(
        st.sampled_from(" '\"\\$%;#=`*:@-+!~{}äé“"), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn"])
    ),
    max_size=40,
)
WORDS = st.lists(LINES, max_size=4).map(lambda words: ("/bin/program", *words))


@given(WORDS)
def test_words_come_back_from_a_command_line(words: tuple[str, ...]) -> None:
    text = f"[Service]\nExecStart={exec_start(words)}\n"
    unit, problems = parse_unit_file("x.service", text, path="x.service")
    setting = unit.last("Service", "ExecStart")

    assert problems == ()
    assert setting is not None
    assert [command.words for command in parse_commands(setting.value, {"%": "%"})] == [words]


@given(LINES)
def test_a_value_comes_back_from_an_env_file(value: str) -> None:
    text = f"BEFORE='1'\nNAME={env_value(value)}\nAFTER='2'\n"

    assert parse_environment_file(text) == {"BEFORE": "1", "NAME": value, "AFTER": "2"}


@given(LINES)
def test_a_setting_comes_back_from_a_unit_file(value: str) -> None:
    try:
        written = unit_value(value)
    except ValueError:
        assert value != value.strip() or value.endswith("\\")
        return
    unit, problems = parse_unit_file("x.service", f"[Unit]\nDescription={written}\nAfter=a.service\n", path="x.service")

    assert problems == ()
    setting = unit.last("Unit", "Description")
    assert expand_specifiers(setting.value if setting else "", {"%": "%"}) == value
    assert unit.names("After") == ("a.service",)


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--alias", "--alias"),
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5556"),
        ("", '""'),
        (";", '";"'),
        ("two words", '"two words"'),
        ("$HOME", '"$HOME"'),
        ("100%", '"100%%"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
    ],
)
def test_a_word_is_quoted_only_where_it_must_be(word: str, written: str) -> None:
    assert exec_word(word) == written


def test_an_env_value_is_in_single_quotes_unless_it_holds_one() -> None:
    assert env_value(r"^blk[.]0=CPU,$x \d") == r"'^blk[.]0=CPU,$x \d'"
    assert env_value('it\'s `$5` \\ "now"') == r'''"it's \`\$5\` \\ \"now\""'''


def test_env_lines_are_sorted_by_name() -> None:
    assert list(env_lines({"B": "2", "A": "1"})) == ["A='1'", "B='2'"]


@pytest.mark.parametrize("name", ["", "1X", "X-Y", "export X", "X=Y", "Ä"])
def test_a_name_that_systemd_would_drop_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a variable name"):
        list(env_lines({name: "1"}))


@pytest.mark.parametrize(
    "control", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ufdd0", "\uffff", "\U0001fffe"]
)
def test_control_characters_are_refused_everywhere(control: str) -> None:
    assert CONTROL.search(control)
    for quote in (exec_word, unit_value, env_value):
        with pytest.raises(ValueError, match="control characters"):
            quote(f"a{control}b")


@pytest.mark.parametrize("value", [" a", "a ", "a\\"])
def test_a_setting_that_systemd_would_trim_or_join_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="blank"):
        unit_value(value)
