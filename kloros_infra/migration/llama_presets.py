"""Presets of llama-server's router mode (an INI file) → its models in our words.

The grammar is that of llama.cpp's common/preset.cpp: `[section]`, `key = value`, a value ends before ; or #, a section
or key that comes again replaces the one before. `[*]` holds for all sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kloros_infra.diagnostics import Diagnostic, Problems, Span
from kloros_infra.migration import problems
from kloros_infra.migration.described import Described
from kloros_infra.migration.served import read_settings
from kloros_infra.migration.settings import Setting, setting_of_entry

ALL = "*"
DEFAULT = "default"
"""Where keys stand that come before any section."""
VERSION = "version"

_SECTION = re.compile(r"\[[ \t]*([^\]]+?)[ \t]*\][ \t]*([;#].*)?")
_ENTRY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*([^;#]*?)[ \t]*([;#].*)?")
_NOTHING = re.compile(r"[ \t]*([;#].*)?")
_MOST_CHARACTERS = 2**20


@dataclass(slots=True)
class _Section:
    """A section while it is read: its settings by name, and where each stands."""

    span: Span
    entries: dict[str, tuple[str, Span]] = field(default_factory=dict)


def describe_llama_presets(text: str, *, file: str) -> tuple[tuple[Described, ...], Problems]:
    """Describe the models of a preset file."""
    sections, found = _read(text, file)
    common = _settings(sections.pop(ALL, None))
    # Keys before the first section make a model of their own, unless there is nothing but `version`.
    if DEFAULT in sections and not sections[DEFAULT].entries.keys() - {VERSION}:
        del sections[DEFAULT]
    described = tuple(
        Described(name, read_settings(tuple({**common, **_settings(section)}.values())))
        for name, section in sections.items()
    )
    return described, found


def _settings(section: _Section | None) -> Mapping[str, Setting]:
    """Read a section's entries by the one name of each option: its spellings replace each other."""
    if section is None:
        return {}
    settings = (setting_of_entry(key, value, span) for key, (value, span) in section.entries.items() if key != VERSION)
    return {setting.name: setting for setting in settings}


def _read(text: str, file: str) -> tuple[dict[str, _Section], Problems]:
    """Read the lines; the first that are not understood end llama-server, so all of them are errors."""
    if len(text) > _MOST_CHARACTERS:
        return {}, (problems.bad_preset_line(Span(file, 1, 1), "the file has more than a mebibyte"),)
    found: list[Diagnostic] = []
    sections: dict[str, _Section] = {}
    here = DEFAULT
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        span = Span(file, number, 1)
        if section := _SECTION.fullmatch(line):
            here = section[1]
            if here in sections:
                found.append(problems.written_twice(span, sections[here].span, f"[{here}]"))
            sections[here] = _Section(span)
        elif entry := _ENTRY.fullmatch(line):
            found += _keep(sections.setdefault(here, _Section(span)), entry[1], entry[2], span)
        elif not _NOTHING.fullmatch(line):
            found.append(problems.bad_preset_line(_first_character(line, span), _why(line)))
    return sections, tuple(found)


def _keep(section: _Section, key: str, value: str, span: Span) -> Iterator[Diagnostic]:
    if key in section.entries:
        yield problems.written_twice(span, section.entries[key][1], key)
    section.entries[key] = (value, span)


def _first_character(line: str, span: Span) -> Span:
    return Span(span.file, span.line, len(line) - len(line.lstrip()) + 1)


def _why(line: str) -> str:
    """Say what keeps a line from being understood."""
    if line[:1] in (" ", "\t"):
        return "a section or key begins at the first character of its line"
    if line.startswith("-"):
        return "a key has no dashes before it"
    return "it is neither a section, nor a key with a value, nor a comment"
