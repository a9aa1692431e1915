"""Words of Exec*= and Environment=: quoting, escapes and specifiers, as systemd.service(5) has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kloros_infra.ir.environment_file import is_variable_name

BLANKS = " \t\n\r"
QUOTES = "\"'"
# systemd.syntax(7), "Quoting": C-style escapes, and \s for a blank.
SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
NUMERIC_ESCAPE = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})")

SEPARATOR = re.compile(r";(?!\S)")
ESCAPED_SEPARATOR = re.compile(r"\\;(?!\S)")


class SyntaxProblemError(ValueError):
    """A value that systemd would refuse, or that asks for what the supervisor does not do."""


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run; with `may_fail` its exit status does not matter (prefix `-`)."""

    words: tuple[str, ...]
    may_fail: bool = False


def split_words(text: str) -> tuple[str, ...]:
    """Split at blanks, honouring quotes and escapes; raise SyntaxProblemError on an open quote."""
    words: list[str] = []
    at = skip_blanks(text, 0)
    while at < len(text):
        word, at = read_word(text, at)
        words.append(word)
        at = skip_blanks(text, at)
    return tuple(words)


def skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in BLANKS:
        at += 1
    return at


def read_word(text: str, at: int) -> tuple[str, int]:
    """Read the word that begins at a place; a quotation may begin and end anywhere in it."""
    word: list[str] = []
    quote = ""
    while at < len(text) and (quote or text[at] not in BLANKS):
        char = text[at]
        at += 1
        if char == "\\":
            piece, at = read_escape(text, at)
            word.append(piece)
        elif char == quote:
            quote = ""
        elif not quote and char in QUOTES:
            quote = char
        else:
            word.append(char)
    if quote:
        raise SyntaxProblemError(f"a quotation that starts with {quote} is not closed")
    return "".join(word), at


def read_escape(text: str, at: int) -> tuple[str, int]:
    """Read what follows a backslash; an unknown escape is kept as it stands, as systemd does."""
    if at >= len(text):
        raise SyntaxProblemError("a backslash at the end escapes nothing")
    if text[at] in SIMPLE_ESCAPES:
        return SIMPLE_ESCAPES[text[at]], at + 1
    found = NUMERIC_ESCAPE.match(text, at)
    if found is None:
        return "\\" + text[at], at + 1
    code = int(found[0].lstrip("xuU"), 8 if found[4] else 16)
    if code == 0 or code > 0x10FFFF:
        raise SyntaxProblemError(f"\\{found[0]} is not a character")
    # \xHH and \NNN are bytes; the text is decoded with surrogateescape on its way to exec.
    is_byte = bool(found[1] or found[4])
    return (bytes([code & 0xFF]).decode(errors="surrogateescape") if is_byte else chr(code)), found.end()


def expand_specifiers(text: str, specifiers: Mapping[str, str]) -> str:
    """Replace %x; raise SyntaxProblemError for a specifier that is not in the table."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in specifiers:
            raise SyntaxProblemError(f"the specifier %{found[1]} is not known here")
        return specifiers[found[1]]

    return re.sub(r"%(.?)", value, text, flags=re.DOTALL)


def parse_commands(text: str, specifiers: Mapping[str, str]) -> tuple[Command, ...]:
    """Read the value of one Exec*= line: usually one command, several when separated by a bare `;`."""
    lines: list[list[str]] = [[]]
    at = skip_blanks(text, 0)
    while at < len(text):
        if SEPARATOR.match(text, at):
            lines.append([])
            at += 1
        elif ESCAPED_SEPARATOR.match(text, at):
            lines[-1].append(";")
            at += 2
        else:
            word, at = read_word(text, at)
            lines[-1].append(word)
        at = skip_blanks(text, at)
    return tuple(parse_command(words, specifiers) for words in lines if words)


def parse_command(words: list[str], specifiers: Mapping[str, str]) -> Command:
    """Read the prefixes of the first word, and expand each word as they say."""
    prefixes, program = re.fullmatch(r"([-:@+!]*)(.*)", words[0], flags=re.DOTALL).groups()  # type: ignore[union-attr]  # matches every string
    unknown = set(prefixes) - {"-", ":"}
    if unknown or not program:
        raise SyntaxProblemError(f"“{words[0]}”: of the prefixes of Exec*= only - and : are known here")
    expanded = [expand_specifiers(word, specifiers) for word in (program, *words[1:])]
    if ":" not in prefixes:
        expanded = [unescape_dollars(word) for word in expanded]
    return Command(tuple(expanded), may_fail="-" in prefixes)


def unescape_dollars(word: str) -> str:
    """Turn $$ into $; raise SyntaxProblemError for a variable, which is never expanded here."""
    if re.search(r"\$", word.replace("$$", "")):
        raise SyntaxProblemError(f"“{word}” names a variable; variables are not expanded here (write ExecStart=:…)")
    return word.replace("$$", "$")


def parse_environment(text: str, specifiers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Read the assignments of one Environment= line; raise SyntaxProblemError for anything else."""
    assignments: list[tuple[str, str]] = []
    for word in split_words(text):
        name, mark, value = expand_specifiers(word, specifiers).partition("=")
        if not mark or not is_variable_name(name):
            raise SyntaxProblemError(f"“{word}” is not of the form NAME=value")
        assignments.append((name, value))
    return tuple(assignments)
