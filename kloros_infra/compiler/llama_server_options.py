"""The text of `llama-server --help` → the options that this build knows.

llama.cpp, common/arg.cpp, common_arg::to_string: names and the form of the value stand in the first 40 columns, or on
a line of their own where they are longer; explanations are indented by those 40 columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HELP_COLUMN = 40
# What stands beside its help leaves three columns free.
_GAP = 3
_NAME = re.compile(r"(-{1,2}[A-Za-z0-9][A-Za-z0-9_.-]*)(, *|$| )")
_ALLOWED = re.compile(r"allowed values: ([a-z0-9_]+(?:, [a-z0-9_]+)*)")
_ENUMERATED = re.compile(r"[{<\[]([A-Za-z0-9_-]+(?:[,|][A-Za-z0-9_-]+)+)[}>\]]")
_LISTED = re.compile(r"([a-z0-9-]+(?:,[a-z0-9-]+)+)")
_QUOTED = re.compile(r"'([a-z_-]+)'")
_TEMPLATES = re.compile(r"list of built-in templates: ([A-Za-z0-9_., -]+?)(?= \(|$)")
_REMOVED = re.compile(r"the argument has been removed\. (.+?)(?: \(env: [A-Z_]+\))?")


@dataclass(frozen=True, slots=True)
class Option:
    """One option, by its preferred long name without dashes.

    `values` are all that it takes, none where they are not listed; `is_list` says that it takes several of them, joined
    by commas. `words` are texts that stand quoted in its explanation: what an option of numbers may take as well.
    `removal` says what came instead of it.
    """

    name: str
    takes_value: bool
    is_number: bool
    values: tuple[str, ...]
    words: tuple[str, ...]
    removal: str | None
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a build knows: options by each of their long names, `no-` twins too; long names by short ones."""

    options: Mapping[str, Option]
    short_names: Mapping[str, str]
    chat_templates: tuple[str, ...]


def parse_help(text: str) -> ServerOptions:
    """Read what `--help` prints; a text that is nothing of the kind gives no options."""
    options: dict[str, Option] = {}
    short_names: dict[str, str] = {}
    templates: tuple[str, ...] = ()
    for head, description in _entries(text):
        names, form = _names(head)
        long_names = [name.removeprefix("--") for name in names if name.startswith("--")]
        if not long_names:
            continue
        option = _option(long_names, form, description)
        options |= dict.fromkeys(long_names, option)
        short_names |= {name.removeprefix("-"): option.name for name in names if not name.startswith("--")}
        if option.name == "chat-template" and (found := _TEMPLATES.search(description)):
            templates = tuple(found[1].split(", "))
    return ServerOptions(options, short_names, templates)


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Give each option's names and form, and its explanation on one line."""
    head = ""
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("-") and not line.startswith("---"):
            if head:
                yield head, " ".join(words)
            beside = not line[HELP_COLUMN - _GAP : HELP_COLUMN].strip()
            head = (line[:HELP_COLUMN] if beside else line).strip()
            words = [line[HELP_COLUMN:].strip()] if beside and line[HELP_COLUMN:] else []
        elif line.startswith(" ") and line.strip():
            words.append(line.strip())
    if head:
        yield head, " ".join(words)


def _names(head: str) -> tuple[list[str], str]:
    """Split `-t,    --threads N` into names and the form of the value."""
    names: list[str] = []
    rest = head
    while found := _NAME.match(rest):
        names.append(found[1])
        rest = rest[found.end() :]
        if not found[2].startswith(","):
            break
    return names, rest.strip()


def _option(long_names: list[str], form: str, description: str) -> Option:
    positive = (name for name in long_names if not name.startswith("no-"))
    removal = _REMOVED.fullmatch(description)
    return Option(
        name=next(positive, long_names[0]),
        takes_value=bool(form),
        is_number=form == "N",
        values=_values(form, description),
        words=tuple(_QUOTED.findall(description)),
        removal=removal[1] if removal else None,
        is_list=_LISTED.fullmatch(form) is not None,
    )


def _values(form: str, description: str) -> tuple[str, ...]:
    """List what an option takes: `{none,layer}`, `[on|off]`, `<0|1>`, `none,draft-simple`, or in words further on."""
    found = _ENUMERATED.fullmatch(form) or _LISTED.fullmatch(form) or _ALLOWED.search(description)
    return tuple(re.split("[,|] ?", found[1])) if found else ()
