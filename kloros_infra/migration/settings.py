"""Options of llama-server as others write them – words, keys of a preset, variables – → settings by their one name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kloros_infra.diagnostics import Span
from kloros_infra.migration.spellings import PRESET_SWITCHES, SWITCHES, of_variable, preferred

# common/arg.cpp, common_arg_utils::is_truthy and is_falsey.
_TRUTHY = frozenset({"on", "enabled", "true", "1"})
_FALSY = frozenset({"off", "disabled", "false", "0"})
_NUMBER = re.compile(r"-[0-9.]+([eE][-+]?[0-9]+)?(,.*)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """An option by its preferred long name; a switch is true or false."""

    name: str
    value: str | bool
    span: Span | None = None


def settings_of_words(words: Sequence[str], span: Span | None = None) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """Read the words behind a program's name; give what belongs to no option too."""
    found: list[Setting] = []
    stray: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            stray.append(word)
            continue
        spelling, has_value, value = word.lstrip("-").partition("=") if word.startswith("--") else (word[1:], "", "")
        name, is_off = preferred(spelling)
        if has_value:
            found.append(Setting(name, value, span))
        elif name in SWITCHES or not rest or _is_option(rest[0]):
            found.append(Setting(name, not is_off, span))
        else:
            found.append(Setting(name, rest.pop(0), span))
    return tuple(found), tuple(stray)


def _is_option(word: str) -> bool:
    """Say whether a word begins an option; a negative number is a value."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.fullmatch(word)


def setting_of_entry(key: str, value: str, span: Span | None = None) -> Setting:
    """Read `key = value` of a preset, whose key may be any spelling, with or without dashes, or a variable."""
    name, is_off = preferred(of_variable(key) or key.lstrip("-"))
    if name in SWITCHES or name in PRESET_SWITCHES:
        is_on = value.lower() not in _FALSY if is_off else value.lower() in _TRUTHY
        return Setting(name, is_on != is_off, span)
    return Setting(name, value, span)


def settings_of_variables(entries: Sequence[str], span: Span | None = None) -> Iterator[Setting | str]:
    """Read `NAME=value` entries: options as settings, anything else as the name it has."""
    for entry in entries:
        name, _, value = entry.partition("=")
        option = of_variable(name)
        yield setting_of_entry(option, value, span) if option else name
