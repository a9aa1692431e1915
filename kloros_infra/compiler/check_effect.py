"""A word on the settings that are checked and kept while nothing acts on them yet (KI262)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.settings import spec_within, told
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import listed
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.setting import ACTED_ON, Spec


def check_effect(parsed: Parsed) -> Iterator[Diagnostic]:
    """Name the settings of the file that change nothing yet, in one warning."""
    written = list(_without_effect(parsed.config, (), ""))
    if not written:
        return
    counts = Counter(setting for setting, _ in written)
    named = [name if count == 1 else f"{name} ({count} times)" for name, count in sorted(counts.items())]
    problem = Diagnostic(
        code="KI262",
        summary="Settings that nothing acts on yet",
        detail=f"This version checks and keeps these, and does not act on them: {listed(named)}.",
        hint="They can stay; nothing changes by them until a later version acts on them.",
        severity=Severity.WARNING,
    )
    first = min((address for _, address in written), key=parsed.source.key_span)
    yield parsed.locate(problem, first, at_key=True)


def _without_effect(value: Any, address: Address, setting: str) -> Iterator[tuple[str, Address]]:
    """Walk through what is written, by the paths that the reference gives; a section is named as a whole."""
    match value:
        case Spec():
            fields = _fields_of(type(value))
            for name in value.model_fields_set & fields.keys():
                path = f"{setting}.{name}" if setting else name
                if getattr(value, name) is None:
                    continue
                if fields[name] is _Field.INERT:
                    yield path, (*address, name)
                else:
                    yield from _without_effect(getattr(value, name), (*address, name), path)
        case dict():
            named = f"{setting}.<{setting.rpartition('.')[2].removesuffix('s')}>"
            for key, item in value.items():
                yield from _without_effect(item, (*address, key), named)
        case tuple():
            for index, item in enumerate(value):
                yield from _without_effect(item, (*address, index), f"{setting}[]")


class _Field(Enum):
    """What makes a field worth a look."""

    INERT = "nothing acts on it"
    SECTION = "it holds further settings"


@cache
def _fields_of(spec: type[Spec]) -> Mapping[str, _Field]:
    """Find the fields without effect, and those below which there may be some."""
    found: dict[str, _Field] = {}
    for name, field in spec.model_fields.items():
        if not told(field, ACTED_ON):
            found[name] = _Field.INERT
        elif spec_within(field.annotation)[1] is not None:
            found[name] = _Field.SECTION
    return found
