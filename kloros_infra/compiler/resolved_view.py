"""models.yaml with every setting settled, and for each value the place that it comes from.

What counts is what `resolve` makes of it: the settings of a model under a profile are the nearest of profile, model,
`defaults` and what is standard; elsewhere, what is left out is standard. What has no plain value then stays left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kloros_infra.compiler.settings import Shape, declarations, default_of, spec_of, told
from kloros_infra.compiler.source import Address, Source
from kloros_infra.compiler.yaml_lines import is_flow
from kloros_infra.diagnostics import Span
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import GpuSpec
from kloros_infra.ir.config_models import DefaultsSpec, InstanceSpec, ModelSpec
from kloros_infra.ir.config_requests import PersonaSpec
from kloros_infra.ir.setting import INHERITED, Spec

WRITTEN = "written"
MODEL = "model"
DEFAULTS = "defaults"
STANDARD = "standard"


DERIVED: Mapping[tuple[type[Spec], str], tuple[str, Callable[[Address], Address]]] = {
    (GpuSpec, "reserve"): (DEFAULTS, lambda _: (DEFAULTS, "reserve")),
    (InstanceSpec, "context_tokens"): (MODEL, lambda instance: (*instance[:2], "context_tokens")),
    (ModelSpec, "name"): ("id", lambda model: (*model, "id")),
    (ModelSpec, "display_name"): ("id", lambda model: (*model, "id")),
    (PersonaSpec, "display_name"): ("id", lambda persona: (*persona, "id")),
}
"""Settings that another one gives where they are left out: a word for it, and where it is."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: `word` says from whom, `span` is None for what nobody wrote."""

    word: str
    span: Span | None = None

    def __str__(self) -> str:
        place = f"{self.span.file}:{self.span.line}" if self.span else ""
        return ", ".join(filter(None, ("" if self.word == WRITTEN else self.word, place)))


@dataclass(frozen=True, slots=True)
class View:
    """Values as models.yaml would say them, and the origin of each that has a line of its own."""

    tree: dict[str, Any]
    origins: Mapping[Address, Origin]

    def value(self, address: Address) -> Any:
        """Give the value at an address of the tree."""
        value: Any = self.tree
        for part in address:
            value = value[part]
        return value

    def origin(self, address: Address) -> Origin:
        """Say where a value comes from: within a line, from where the whole line does."""
        while address not in self.origins:
            address = address[:-1]
        return self.origins[address]

    def within(self, address: Address) -> Mapping[Address, Origin]:
        """Give the origins of all that is at an address."""
        found = {place: origin for place, origin in self.origins.items() if place[: len(address)] == address}
        return found or {address: self.origin(address)}


def written_view(source: Source) -> View:
    """Show what is written, joined from all files."""
    builder = _Builder(source)
    return View(builder.take(source.tree, (), ()), builder.origins)


def resolved_view(source: Source) -> View:
    """Settle every setting of a file that has been parsed."""
    builder = _Builder(source)
    return View(builder.section(Config, source.tree, ()), builder.origins)


class _Builder:
    """Walks the declarations beside what is written, and remembers where each value comes from."""

    def __init__(self, source: Source) -> None:
        self.origins: dict[Address, Origin] = {}
        self._source = source

    def section(self, spec: type[Spec], written: Mapping[str, Any], address: Address) -> dict[str, Any]:
        """Settle what a spec declares, in the order of the declarations."""
        settled = {}
        for name, field in declarations(spec):
            if told(field, INHERITED) and spec is not DefaultsSpec:
                value = self._inherited(name, address) if spec is InstanceSpec else None
            else:
                value = self._setting(spec, name, written.get(name), (*address, name))
            if value is None:
                value = self._derived(spec, name, address)
            if value is not None:
                settled[name] = value
        return settled

    def _setting(self, spec: type[Spec], name: str, written: Any, address: Address) -> Any:
        """Settle one setting: as written, or else as is standard; None where that is no plain value."""
        field = spec.model_fields[name]
        shape, below = spec_of(spec, name)
        if written is None and below is not None and isinstance(field.default, Spec):
            return self.section(below, {}, address) or None
        if written is None:
            return self._standard(default_of(spec, name).value, address)
        return self.take(written, address, address) if below is None else self._within(shape, below, written, address)

    def _within(self, shape: Shape, spec: type[Spec], written: Any, address: Address) -> Any:
        """Settle what is below a section, an entry of a mapping by name, or an item of a list."""
        match shape:
            case Shape.SECTION:
                return self._part(spec, written, address)
            case _ if not written:
                return self.take(written, address, address)
            case Shape.NAMED:
                return {key: self._entry(spec, part, (*address, key)) for key, part in written.items()}
            case _:
                return [self._part(spec, part, (*address, index)) for index, part in enumerate(written)]

    def _entry(self, spec: type[Spec], written: Any, address: Address) -> Any:
        """Settle an entry of a mapping by name; null there says that there shall be none."""
        return self.take(None, address, address) if written is None else self._part(spec, written, address)

    def _part(self, spec: type[Spec], written: Mapping[str, Any], address: Address) -> Any:
        return self.section(spec, written, address) or self.take({}, address, address)

    def _inherited(self, name: str, address: Address) -> Any:
        """Take the nearest value for a model under a profile; `arguments` are joined, each by itself."""
        places = ((WRITTEN, address), (MODEL, address[:2]), (DEFAULTS, (DEFAULTS,)))
        found = [(word, (*place, name)) for word, place in places if self._at((*place, name)) is not None]
        if name == "arguments":
            return self._joined(found, (*address, name))
        if not found:
            return self._standard(default_of(DefaultsSpec, name).value, (*address, name))
        word, place = found[0]
        return self.take(self._at(place), (*address, name), place, word)

    def _joined(self, nearest_first: list[tuple[str, Address]], address: Address) -> Any:
        places = {key: (word, place) for word, place in reversed(nearest_first) for key in self._at(place)}
        return {
            key: self.take(self._at((*place, key)), (*address, key), (*place, key), word)
            for key, (word, place) in sorted(places.items())
        } or None

    def _derived(self, spec: type[Spec], name: str, address: Address) -> Any:
        """Take what another setting gives where this one is left out."""
        if (spec, name) == (ModelSpec, "current_version"):
            return self._only_version(address)
        if (spec, name) not in DERIVED:
            return None
        word, other = DERIVED[spec, name]
        place = other(address)
        value = self._at(place)
        if value is None:
            return self._standard(default_of(DefaultsSpec, name).value, (*address, name))
        return self.take(value, (*address, name), place, word)

    def _only_version(self, model: Address) -> Any:
        versions = self._at((*model, "versions"))
        if versions is None or len(versions) != 1:
            return None
        place = (*model, "versions", 0, "version_id")
        return self.take(self._at(place), (*model, "current_version"), place, "only version")

    def _standard(self, value: Any, address: Address) -> Any:
        if value is not None:
            self.origins[address] = Origin(STANDARD)
        return value

    def take(self, value: Any, address: Address, place: Address, word: str = WRITTEN) -> Any:
        """Take a value that is written at `place`, with the place of every part that gets a line of its own."""
        match value:
            case dict() if value:
                for key, part in value.items():
                    self.take(part, (*address, key), (*place, key), word)
            case list() if value and not is_flow(value):
                for index, part in enumerate(value):
                    self.take(part, (*address, index), (*place, index), word)
            case _:
                self.origins[address] = Origin(word, self._source.span(place))
        return value

    def _at(self, address: Address) -> Any:
        value = self._source.tree
        for part in address:
            value = value.get(part) if isinstance(value, dict) else value[part]
            if value is None:
                return None
        return value
