"""Text of an EnvironmentFile= → variables, by the rules of systemd.exec(5).

The table of states mirrors systemd's own reader (src/basic/env-file.c), because corners such as a quotation after the
first character of a value are described nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

COMMENT_MARKS = "#;"
NEWLINES = "\n\r"
WHITESPACE = " \t\n\r"
ESCAPED_IN_DOUBLE_QUOTES = '"\\`$'

# What our own files consist of: a line as a whole is read many times faster than by character.
PLAIN_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)='([^'\n\r]*)'\n")


class Place(Enum):
    """Where in the file the reader stands."""

    BEFORE_KEY = auto()
    KEY = auto()
    BEFORE_VALUE = auto()
    VALUE = auto()
    VALUE_ESCAPE = auto()
    SINGLE_QUOTED = auto()
    DOUBLE_QUOTED = auto()
    DOUBLE_QUOTED_ESCAPE = auto()
    COMMENT = auto()


@dataclass(slots=True)
class Reader:
    """What was read so far; `blanks_from` is where a value's trailing blanks begin, None when there are none."""

    place: Place = Place.BEFORE_KEY
    key: str = ""
    value: str = ""
    blanks_from: int | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def finish_assignment(self) -> None:
        """Keep the assignment if its name is one; start the next line."""
        value = self.value if self.blanks_from is None else self.value[: self.blanks_from]
        name = self.key.rstrip(WHITESPACE)
        if is_variable_name(name):
            self.variables[name] = value
        self.place, self.key, self.value, self.blanks_from = Place.BEFORE_KEY, "", "", None


def parse_environment_file(text: str) -> dict[str, str]:
    """Read assignments; lines whose name is not a variable name are left out, as systemd does."""
    reader, at = Reader(), 0
    while at < len(text):
        plain = PLAIN_LINE.match(text, at) if reader.place is Place.BEFORE_KEY else None
        if plain is None:
            READ[reader.place](reader, text[at])
            at += 1
        else:
            reader.variables[plain[1]] = plain[2]
            at = plain.end()
    assigning = reader.place not in (Place.BEFORE_KEY, Place.KEY, Place.COMMENT)
    if assigning:
        reader.finish_assignment()
    return reader.variables


def is_variable_name(name: str) -> bool:
    """Say whether systemd takes it as the name of an environment variable."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None


def before_key(reader: Reader, char: str) -> None:
    if char in COMMENT_MARKS:
        reader.place = Place.COMMENT
    elif char not in WHITESPACE:
        reader.place, reader.key = Place.KEY, char


def in_key(reader: Reader, char: str) -> None:
    if char in NEWLINES:
        reader.place, reader.key = Place.BEFORE_KEY, ""
    elif char == "=":
        reader.place = Place.BEFORE_VALUE
    else:
        reader.key += char


def before_value(reader: Reader, char: str) -> None:
    if char in NEWLINES:
        reader.finish_assignment()
    elif char in QUOTED:
        reader.place = QUOTED[char]
    elif char == "\\":
        reader.place = Place.VALUE_ESCAPE
    elif char not in WHITESPACE:
        reader.place = Place.VALUE
        reader.value += char


def in_value(reader: Reader, char: str) -> None:
    if char in NEWLINES:
        reader.finish_assignment()
        return
    if char == "\\":
        reader.place, reader.blanks_from = Place.VALUE_ESCAPE, None
        return
    if char not in WHITESPACE:
        reader.blanks_from = None
    elif reader.blanks_from is None:
        reader.blanks_from = len(reader.value)
    reader.value += char


def in_value_escape(reader: Reader, char: str) -> None:
    reader.place = Place.VALUE
    if char not in NEWLINES:
        reader.value += char


def in_single_quotes(reader: Reader, char: str) -> None:
    if char == "'":
        reader.place = Place.BEFORE_VALUE
    else:
        reader.value += char


def in_double_quotes(reader: Reader, char: str) -> None:
    if char == '"':
        reader.place = Place.BEFORE_VALUE
    elif char == "\\":
        reader.place = Place.DOUBLE_QUOTED_ESCAPE
    else:
        reader.value += char


def in_double_quotes_escape(reader: Reader, char: str) -> None:
    reader.place = Place.DOUBLE_QUOTED
    if char in ESCAPED_IN_DOUBLE_QUOTES:
        reader.value += char
    elif char != "\n":
        reader.value += "\\" + char


def in_comment(reader: Reader, char: str) -> None:
    # Before version 254 a backslash at the end of a comment hid the next line too; it does so no longer.
    if char in NEWLINES:
        reader.place = Place.BEFORE_KEY


QUOTED = {"'": Place.SINGLE_QUOTED, '"': Place.DOUBLE_QUOTED}
READ: dict[Place, Callable[[Reader, str], None]] = {
    Place.BEFORE_KEY: before_key,
    Place.KEY: in_key,
    Place.BEFORE_VALUE: before_value,
    Place.VALUE: in_value,
    Place.VALUE_ESCAPE: in_value_escape,
    Place.SINGLE_QUOTED: in_single_quotes,
    Place.DOUBLE_QUOTED: in_double_quotes,
    Place.DOUBLE_QUOTED_ESCAPE: in_double_quotes_escape,
    Place.COMMENT: in_comment,
}
