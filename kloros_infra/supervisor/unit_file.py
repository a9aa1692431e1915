"""Text of a unit file → its settings, by the rules of systemd.syntax(7)."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.diagnostics import Diagnostic, Problems, Span
from kloros_infra.supervisor.problems import unit_unusable

COMMENT_MARKS = ("#", ";")


@dataclass(frozen=True, slots=True)
class Setting:
    """One `Key=value` and the line it starts on."""

    section: str
    key: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class UnitFile:
    """All settings of a unit, in the order of the file; `path` is for messages."""

    name: str
    path: str
    settings: tuple[Setting, ...]

    def all(self, section: str, key: str) -> tuple[Setting, ...]:
        """Give a repeated key's settings; an empty assignment forgets those before it."""
        found: list[Setting] = []
        for setting in self.settings:
            if (setting.section, setting.key) == (section, key):
                found = [*found, setting] if setting.value else []
        return tuple(found)

    def last(self, section: str, key: str) -> Setting | None:
        """Give the setting that wins where a key holds one value."""
        found = self.all(section, key)
        return found[-1] if found else None

    def names(self, *keys: str) -> tuple[str, ...]:
        """Give the unit names listed under keys of [Unit], each once, in order."""
        values = (setting.value for key in keys for setting in self.all("Unit", key))
        return tuple(dict.fromkeys(name for value in values for name in value.split()))

    def span(self, setting: Setting) -> Span:
        return Span(self.path, setting.line, 1)


def parse_unit_file(name: str, text: str, *, path: str) -> tuple[UnitFile, Problems]:
    """Read a unit file; every line that is no comment, section or setting is a problem."""
    settings: list[Setting] = []
    problems: list[Diagnostic] = []
    section = ""
    for line, content in logical_lines(text):
        key, mark, value = content.partition("=")
        if content.startswith("[") and content.endswith("]"):
            section = content[1:-1]
        elif not mark or not key.strip():
            problems.append(unit_unusable(name, f"“{content}” is not of the form Key=value.", Span(path, line, 1)))
        elif not section:
            problems.append(unit_unusable(name, f"“{content}” stands before the first [Section].", Span(path, line, 1)))
        else:
            settings.append(Setting(section, key.strip(), value.strip(), line))
    return UnitFile(name, path, tuple(settings)), tuple(problems)


def logical_lines(text: str) -> tuple[tuple[int, str], ...]:
    """Join continued lines, drop comments and blank lines; each with the number of its first line.

    A trailing backslash becomes a blank, and comment lines between continued lines are skipped.
    """
    lines: list[tuple[int, str]] = []
    pending = ""
    first = 0
    # Only \n ends a line: str.splitlines would also cut at characters that may stand in a value.
    for number, raw in enumerate(text.split("\n"), start=1):
        content = raw.lstrip()
        if content.startswith(COMMENT_MARKS):
            continue
        first = first or number
        pending += content
        if is_continued(content):
            pending = pending[:-1] + " "
            continue
        lines.append((first, pending.strip()))
        pending, first = "", 0
    lines.append((first, pending.strip()))
    return tuple((number, line) for number, line in lines if line)


def is_continued(content: str) -> bool:
    """Say whether a line ends in a backslash that is not itself escaped."""
    backslashes = len(content) - len(content.rstrip("\\"))
    return backslashes % 2 == 1
