"""Checks that lists do not name one thing twice (KI239)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config


def check_repeats(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find items that stand in a list twice, where the second says nothing new."""
    for address, items in _lists(parsed.config):
        seen: set[str] = set()
        for place, item in enumerate(items):
            if item in seen:
                problem = Diagnostic(
                    code="KI239",
                    summary="Listed twice",
                    detail=f"{item!r} stands in this list already.",
                    hint="Take one of the two out, or write what was meant.",
                    severity=Severity.WARNING,
                )
                yield parsed.locate(problem, (*address, place))
            seen.add(item)


def _lists(config: Config) -> Iterator[tuple[Address, Sequence[str]]]:
    for index, model in enumerate(config.models):
        yield ("models", index, "aliases"), model.aliases
        yield ("models", index, "purpose_tags"), model.purpose_tags
        yield ("models", index, "languages"), model.languages
    for index, persona in enumerate(config.personas):
        yield ("personas", index, "aliases"), persona.aliases
        yield ("personas", index, "stop"), persona.stop
    for name, purpose in config.purposes.items():
        yield ("purposes", name, "candidates"), purpose.candidates
    yield ("policies", "data_classes"), config.policies.data_classes
    for name, client in config.policies.clients.items():
        yield ("policies", "clients", name, "models"), client.models or ()
        yield ("policies", "clients", name, "purposes"), client.purposes or ()
    yield ("sandbox", "read_only_paths"), config.sandbox.read_only_paths
