"""Where `arguments` stand in models.yaml, and what each place takes over from the places before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kloros_infra.compiler.source import Address
from kloros_infra.ir.catalog import ArgumentValue
from kloros_infra.ir.config import Config


@dataclass(frozen=True, slots=True)
class WrittenArguments:
    """The options of one place: `inherited` are those of the places that it adds to."""

    address: Address
    own: Mapping[str, ArgumentValue]
    inherited: Mapping[str, ArgumentValue]


def written_arguments(config: Config) -> Iterator[WrittenArguments]:
    """List every place with options, in the order in which they add to each other."""
    common = config.defaults.arguments
    if common:
        yield WrittenArguments(("defaults", "arguments"), common, {})
    for index, model in enumerate(config.models):
        if model.arguments:
            yield WrittenArguments(("models", index, "arguments"), model.arguments, common)
        for profile, instance in model.profiles.items():
            if instance is not None and instance.arguments:
                address = ("models", index, "profiles", profile, "arguments")
                yield WrittenArguments(address, instance.arguments, {**common, **model.arguments})
