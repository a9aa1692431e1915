"""Words of Exec*=: what our compiler quotes comes out as it went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.systemd_syntax import CONTROL, exec_start
from kloros_infra.supervisor.command_line import (
    Command,
    SyntaxProblemError,
    expand_specifiers,
    parse_commands,
    parse_environment,
    split_words,
)

SPECIFIERS = {"%": "%", "i": "code-max"}
WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda w: not CONTROL.search(w)), max_size=5)


@given(WORDS)
def test_what_the_compiler_writes_is_read_back(words: list[str]) -> None:
    command = ["/bin/x", *words]
    assert parse_commands(exec_start(command), SPECIFIERS) == (Command(tuple(command)),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ("a", "b", "c")),
        ("'a b' \"c d\"", ("a b", "c d")),
        ("a'b c'd", ("ab cd",)),
        ("''", ("",)),
        (r'"a \"b\" \\ c"', ('a "b" \\ c',)),
        (r"a\sb\tc", ("a b\tc",)),
        (r"\x41\101\u00e9\U0001F600", ("AAé😀",)),
        (r"blk\.0", (r"blk\.0",)),
        ("", ()),
        (r"\xff", ("\udcff",)),
    ],
)
def test_quotes_and_escapes(text: str, words: tuple[str, ...]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("text", ["'open", '"open', "end\\", r"\x00", r"\U00110000"])
def test_what_is_no_list_of_words_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        split_words(text)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("/bin/a x ; /bin/b", (Command(("/bin/a", "x")), Command(("/bin/b",)))),
        (r"/bin/a \; b", (Command(("/bin/a", ";", "b")),)),
        ('/bin/a "b ; c" ; /bin/d', (Command(("/bin/a", "b ; c")), Command(("/bin/d",)))),
        ("/bin/a x;", (Command(("/bin/a", "x;")),)),
        ("-/bin/a", (Command(("/bin/a",), may_fail=True),)),
        (":/bin/a $HOME", (Command(("/bin/a", "$HOME")),)),
        ("-:/bin/a $$", (Command(("/bin/a", "$$"), may_fail=True),)),
        ("/bin/a $$HOME", (Command(("/bin/a", "$HOME")),)),
        (":/bin/a %i 100%%", (Command(("/bin/a", "code-max", "100%")),)),
        (";", ()),
    ],
)
def test_commands(text: str, commands: tuple[Command, ...]) -> None:
    assert parse_commands(text, SPECIFIERS) == commands


@pytest.mark.parametrize("text", ["+/bin/a", "!!/bin/a", "@/bin/a b", ":", "/bin/a ${X}", "/bin/a $X", "/bin/a %q"])
def test_what_is_not_done_here_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        parse_commands(text, SPECIFIERS)


def test_a_percent_sign_at_the_end_is_refused() -> None:
    with pytest.raises(SyntaxProblemError):
        expand_specifiers("100%", SPECIFIERS)


def test_environment_assignments() -> None:
    assert parse_environment("A=1 'B=x y' C= D=%i", SPECIFIERS) == (
        ("A", "1"),
        ("B", "x y"),
        ("C", ""),
        ("D", "code-max"),
    )


@pytest.mark.parametrize("text", ["A", "1A=2", "=x", "A-B=c"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblemError):
        parse_environment(text, SPECIFIERS)
