"""Unquoted YAML text → plain values, by YAML 1.2's core schema, and where older readers differ.

https://yaml.org/spec/1.2.2/#103-core-schema: `no` and `12:30:45` are text. YAML 1.1 had more booleans, numbers in base
60, underscores in numbers and octal numbers that begin with 0; people and other programs still read files by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

PlainValue = str | int | float | bool | None

_WORDS: dict[str, PlainValue] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_BEGINS_WITH = frozenset("+-.0123456789")
# Python refuses to read decimal integers of more than 4300 digits; no setting has more than 20.
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,20}"), int),
    (re.compile(r"0o[0-7]{1,20}"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]{1,20}"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)


def plain_value(text: str) -> PlainValue:
    """Read an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_BEGINS_WITH:
        return text
    read_number = next((number for pattern, number in _NUMBERS if pattern.fullmatch(text)), None)
    return read_number(text) if read_number else text


_OCTAL_OF_1_1 = re.compile(r"[-+]?0[0-9]*[1-9][0-9]*")


def is_read_otherwise_elsewhere(written: str) -> bool:
    """Say whether an unquoted number means another one to readers of YAML 1.1: `010` is ten here and eight there."""
    return written[1:2].isdigit() and _OCTAL_OF_1_1.fullmatch(written) is not None


_BOOLEANS_OF_1_1 = {
    **dict.fromkeys(("yes", "on", "y", "true"), "true"),
    **dict.fromkeys(("no", "off", "n", "false"), "false"),
}
_LONGEST_NUMBER = 64


def boolean_meant(text: str) -> str | None:
    """Give the truth value that a word stood for in YAML 1.1, as YAML 1.2 writes it."""
    return _BOOLEANS_OF_1_1.get(text.lower())


def number_meant(text: str) -> str | None:
    """Say how to write a number that YAML 1.2 takes as text, and why it does; None for what looks like no number."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if re.fullmatch(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?", text):
        return f"{text} is text in YAML 1.2; numbers in base 60 went with YAML 1.1."
    if re.fullmatch(r"[-+]?[0-9]{1,3}([,_' ][0-9]{3})+|[-+]?[0-9]+(_[0-9]+)+", text):
        return f"Write {re.sub('[^-+0-9]', '', text)}; with separators it is text in YAML 1.2."
    if re.fullmatch(r"0[bB][01_]*[01]|0[xX][0-9a-fA-F_]*[0-9a-fA-F]|0O[0-7]+", text):
        return f"Write {int(text.replace('_', ''), 0)}; {text} is text in YAML 1.2."
    return None
