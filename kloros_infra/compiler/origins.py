"""A directive of a generated file → its rule, and the places in models.yaml that it follows from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from kloros_infra.compiler.directive_rules import RULES, Kind, Rule, kind_of
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.resolved_view import View, resolved_view
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.variable_rules import VARIABLES
from kloros_infra.ir.catalog import Catalog, Instance


@dataclass(frozen=True, slots=True)
class FromSetting:
    """A setting that a directive follows from, its value, and where that comes from: `models.yaml:12`, or a word."""

    path: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a directive is there; settings first, for they are what can be changed."""

    key: str
    value: str
    rule: Rule
    settings: tuple[FromSetting, ...]


def rule_for(unit: str, key: str) -> Rule | None:
    """Find the rule of a directive (`Section.Key`) or of a variable in the unit's env file."""
    kind = kind_of(unit)
    if "." in key:
        return RULES[kind].get(key)
    return VARIABLES.get(key) if kind is Kind.INSTANCE else None


class Origins:
    """Answers for one project; what is settled for one directive serves for all."""

    def __init__(self, parsed: Parsed, catalog: Catalog) -> None:
        self._parsed = parsed
        self._host = catalog.host
        self._instances = {instance.unit: instance for instance in catalog.instances if instance.shared_with is None}
        self._view = resolved_view(parsed.source)

    def reason(self, unit: str, key: str, value: str) -> Reason | None:
        """Say why a directive is there; None for one that no rule of ours emits, such as a drop-in's."""
        rule = rule_for(unit, key)
        if rule is None:
            return None
        instance = self._instances.get(unit)
        addresses = (address for name in rule.settings for address in self._addresses(name, instance))
        return Reason(key, value, rule, tuple(self._settings(addresses)))

    def _addresses(self, name: str, instance: Instance | None) -> Iterator[Address]:
        """Find the places that a rule's word for a setting means; see `directive_rules`."""
        base, colon, field = name.partition(":")
        if not colon:
            yield tuple(name.split("."))
            return
        if instance is None:
            return
        model = next(i for i, one in enumerate(self._parsed.config.models) if one.id == instance.model.id)
        match base:
            case "model":
                yield ("models", model, field)
            case "instance":
                yield ("models", model, "profiles", instance.profile.name, field)
            case "host":
                yield ("hosts", self._host, field)
            case "profile":
                yield ("profiles", instance.profile.name, field)
            case "gpu":
                yield from (("gpus", card.name, field) for card in instance.profile.cards)
            case _:
                versions = self._parsed.config.models[model].versions
                names = [version.version_id for version in versions]
                yield ("models", model, "versions", names.index(instance.model.version_id), field)

    def _settings(self, addresses: Iterator[Address]) -> Iterator[FromSetting]:
        for address in addresses:
            value = _value_at(self._view, address)
            if value is not None:
                origins = tuple(self._view.within(address).values())
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                yield FromSetting(self._parsed.source.path(address), printable(text), str(origins[0]) or "standard")


def _value_at(view: View, address: Address) -> object | None:
    """Give a settled value; None for a setting that is left out and has no standard."""
    value: object = view.tree
    for part in address:
        if isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value
