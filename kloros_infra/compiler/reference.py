"""Settings → what `kloros-infra explain` prints: what each does, what may be written, and an example."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from kloros_infra.compiler.settings import NOT_ACTED_ON, PLACES, Setting, children, settings
from kloros_infra.compiler.yaml_lines import yaml_lines

WIDTH = 100
PRECEDENCE = f"can stand in `{PLACES[0]}`, `{PLACES[1]}` and `{PLACES[2]}`; the nearest to the profile counts."


def explain(setting: Setting, *, is_recursive: bool = False) -> Iterator[str]:
    """Describe a setting, with one line for each that is right below it, or for all of them."""
    yield setting.path
    yield ""
    yield from _wrapped(setting.doc, "  ", "  ")
    yield ""
    for label, words in facts(setting):
        yield from _wrapped(words, f"  {label:<11}", " " * 13)
    yield ""
    yield "  example"
    yield ""
    yield from (f"    {line.text}" for line in yaml_lines(example_in_place(setting)))
    below = children(setting)
    if below:
        yield ""
        yield f"  settings of {setting.inside}"
        yield ""
        yield from setting_lines(below, "    ", is_recursive=is_recursive)


def setting_lines(level: Sequence[Setting], indent: str = "  ", *, is_recursive: bool = False) -> Iterator[str]:
    """List settings: one line each, indented by what they are part of."""
    width = max(len(setting.name) for setting in level) + 2
    for setting in level:
        mark = " (required)" if setting.is_required else ""
        yield f"{indent}{setting.name:<{width}}{first_sentence(setting.doc)}{mark}"
        below = children(setting) if is_recursive else ()
        if below:
            yield from setting_lines(below, indent + "  ", is_recursive=True)


def first_sentence(text: str) -> str:
    """Give what fits on a line of a list."""
    return text.partition(". ")[0].removesuffix(".") + "."


def facts(setting: Setting) -> Iterator[tuple[str, str]]:
    """Give what is to be known of a setting, each under a word of its own."""
    yield "type", setting.type_words
    if setting.is_required:
        yield "required", "yes"
    elif setting.default_words:
        yield "default", setting.default_words
    if setting.is_inherited:
        yield "inherited", PRECEDENCE
    if not setting.is_acted_on:
        yield "note", NOT_ACTED_ON


def example_in_place(setting: Setting) -> Any:
    """Put a setting's example where it stands in the file."""
    value = setting.example
    path = setting.path
    while path:
        path, _, part = path.rpartition(".")
        if part.startswith("<"):
            value = {_example_name(path): value}
        elif part.endswith("[]"):
            value = {part.removesuffix("[]"): [value]}
        else:
            value = {part: value}
    return value


def _example_name(path: str) -> str:
    """Give the name that a mapping's own example uses."""
    mapping = next(setting for setting in settings() if setting.path == path)
    return str(next(iter(mapping.example)))


def setting_data(setting: Setting, *, is_recursive: bool = False) -> dict[str, Any]:
    """Describe a setting as plain values, for other programs."""
    below = [setting_data(one, is_recursive=True) if is_recursive else one.name for one in children(setting)]
    return {
        "path": setting.path,
        "type": setting.type_words,
        "doc": setting.doc,
        "default": setting.default_words or None,
        "default_value": setting.default,
        "example": setting.example,
        "is_required": setting.is_required,
        "is_inherited": setting.is_inherited,
        "is_acted_on": setting.is_acted_on,
        "settings": below,
    }


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
