"""llama-swap's macros: `${name}` of the file, of a model, `${MODEL_ID}`, and `${env.NAME}` (internal/config/macros.go).

A model's own macros take the places of the file's. They are put in from the last to the first, so that a macro may use
those before it. `${PORT}` stays: ports are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kloros_infra.compiler.source import Address, Source
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.migration import problems

_MACRO = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
_VARIABLE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_RESERVED = frozenset({"MODEL_ID", "PID", "PORT"})
# What llama-swap itself fills in while it runs.
_LEFT = frozenset({"PORT", "PID"})
# Macros of macros could double a text with each one.
_MOST_CHARACTERS = 65_536

Scalar = str | int | float | bool
Macros = dict[str, Scalar]
"""Values by name, in the order of their definitions."""


def expand(source: Source, environment: Mapping[str, str]) -> tuple[Any, Problems]:
    """Put macros in; what nothing defines is reported and stays as it is."""
    return _Expansion(source, environment).run()


def unfilled(text: str) -> str | None:
    """Name a macro that nothing filled in, and that llama-swap would not fill in while it runs."""
    left = [found[0] for pattern in (_MACRO, _VARIABLE) for found in pattern.finditer(text) if found[1] not in _LEFT]
    return left[0] if left else None


class _Expansion:
    """Goes through a file's values; collects what is wrong."""

    def __init__(self, source: Source, environment: Mapping[str, str]) -> None:
        self._source = source
        self._environment = environment
        self._found: list[Diagnostic] = []

    def run(self) -> tuple[Any, Problems]:
        tree = self._source.tree
        if not isinstance(tree, dict):
            return tree, ()
        common = self._macros(tree.get("macros"), ("macros",))
        expanded: dict[str, Any] = {}
        for key, value in tree.items():
            if key == "models" and isinstance(value, dict):
                expanded[key] = {name: self._model(name, model, common) for name, model in value.items()}
            else:
                expanded[key] = value if key == "macros" else self._value(value, (key,), common)
        return expanded, tuple(self._found)

    def _model(self, name: str, model: Any, common: Macros) -> Any:
        if not isinstance(model, dict):
            return model
        address: Address = ("models", name)
        macros = {"MODEL_ID": name, **common, **self._macros(model.get("macros"), (*address, "macros"))}
        return {
            key: value if key == "macros" else self._value(_without_comments(key, value), (*address, key), macros)
            for key, value in model.items()
        }

    def _macros(self, written: Any, address: Address) -> Macros:
        macros: dict[str, Scalar] = {}
        for name, value in written.items() if isinstance(written, dict) else ():
            reason = _obstacle(name, value)
            if reason:
                self._found.append(problems.bad_macro(self._source.span((*address, name)), name, reason))
            else:
                macros[name] = self._variables(value, (*address, name)) if isinstance(value, str) else value
        return macros

    def _value(self, value: Any, address: Address, macros: Macros) -> Any:
        match value:
            case str():
                return self._text(value, address, macros)
            case list():
                return [self._value(part, (*address, place), macros) for place, part in enumerate(value)]
            case dict():
                return {
                    str(_filled(key, macros)): self._value(part, (*address, key), macros) for key, part in value.items()
                }
            case _:
                return value

    def _text(self, text: str, address: Address, macros: Macros) -> Scalar:
        written = self._variables(text, address)
        filled = _filled(written, macros)
        if isinstance(filled, str) and len(filled) > _MOST_CHARACTERS:
            reason = f"its macros make it longer than {_MOST_CHARACTERS} characters"
            self._found.append(problems.bad_macro(self._source.span(address), str(address[-1]), reason))
            return written
        for name in dict.fromkeys(_MACRO.findall(filled)) if isinstance(filled, str) else ():
            if name not in _LEFT:
                self._found.append(problems.unknown_macro(self._source.span(address), name, (*macros, "PORT")))
        return filled

    def _variables(self, text: str, address: Address) -> str:
        def value_of(found: re.Match[str]) -> str:
            value = self._environment.get(found[1])
            if value is None:
                self._found.append(problems.unset_variable(self._source.span(address), found[1]))
            return found[0] if value is None else value

        return _VARIABLE.sub(value_of, text)


def _filled(text: str, macros: Macros) -> Scalar:
    """Put macros in, the last one first; a text that is nothing but a macro becomes its value."""
    for name, value in reversed(macros.items()):
        written = f"${{{name}}}"
        if text == written and not isinstance(value, str):
            return value
        text = text.replace(written, _go_text(value))
        if len(text) > _MOST_CHARACTERS:
            return text
    return text


def _obstacle(name: str, value: Any) -> str:
    if not _NAME.fullmatch(name):
        return "no name of a macro"
    if name in _RESERVED:
        return "a name that llama-swap keeps for itself"
    if not isinstance(value, str | int | float | bool):
        return "its value is a list, a mapping or nothing"
    return "it uses itself" if isinstance(value, str) and f"${{{name}}}" in value else ""


def _without_comments(key: str, value: Any) -> Any:
    """Take comments out before a macro in one becomes part of the command."""
    if key not in ("cmd", "cmdStop") or not isinstance(value, str):
        return value
    return "\n".join(line for line in value.split("\n") if not line.strip().startswith("#"))


def _go_text(value: Scalar) -> str:
    """Write a value as Go's %v does."""
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        case _:
            return str(value)
