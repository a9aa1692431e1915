"""llama-swap's configuration as written: what an import looks at, and the rest by name (internal/config/config.go)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.migration.macros import expand


def _or_empty(value: Any) -> Any:
    """Read a key without a value as llama-swap does: as if it were not there."""
    return {} if value is None else value


def _as_words(value: Any) -> Any:
    # A value that went through a validator is no JSON any more, where a list would be a tuple.
    return tuple(value or ()) if value is None or isinstance(value, list) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_as_words)]


class _TheirSpec(BaseModel):
    """A part of a configuration; keys that are not looked at are kept by name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, populate_by_name=False)

    @property
    def others(self) -> tuple[str, ...]:
        """Name the keys that are not looked at."""
        return tuple(self.model_extra or ())


class FiltersSpec(_TheirSpec):
    """What happens to the parameters of a request."""

    set_params: Annotated[dict[str, Any], BeforeValidator(_or_empty), Field(alias="setParams")] = {}
    set_params_by_id: Annotated[
        dict[str, dict[str, Any]], BeforeValidator(_or_empty), Field(alias="setParamsByID")
    ] = {}
    strip_params: Annotated[str, Field(alias="stripParams")] = ""


class ServedModelSpec(_TheirSpec):
    """A model: the command that serves it, and its names."""

    cmd: str
    name: str = ""
    aliases: Words = ()
    env: Words = ()
    ttl: Annotated[int, Field(ge=-1)] = -1
    unload_timeout: Annotated[NonNegativeInt, Field(alias="unloadTimeout")] = 0
    use_model_name: Annotated[str, Field(alias="useModelName")] = ""
    filters: Annotated[FiltersSpec, BeforeValidator(_or_empty)] = FiltersSpec()


class GroupSpec(_TheirSpec):
    """Models that take turns, or run side by side."""

    swap: bool = True
    exclusive: bool = True
    persistent: bool = False
    members: Words = ()


class StartupSpec(_TheirSpec):
    """What happens when llama-swap starts."""

    preload: Words = ()


class HooksSpec(_TheirSpec):
    """What happens at events."""

    on_startup: Annotated[StartupSpec, BeforeValidator(_or_empty)] = StartupSpec()


class RouterSettingsSpec(_TheirSpec):
    """Groups, where newer configurations have them."""

    groups: Annotated[dict[str, GroupSpec], BeforeValidator(_or_empty)] = {}


class RouterSpec(_TheirSpec):
    """Who decides what may run together."""

    use: str = "group"
    settings: Annotated[RouterSettingsSpec, BeforeValidator(_or_empty)] = RouterSettingsSpec()


class RoutingSpec(_TheirSpec):
    """How requests find models."""

    router: Annotated[RouterSpec, BeforeValidator(_or_empty)] = RouterSpec()


class LlamaSwapSpec(_TheirSpec):
    """The whole configuration."""

    models: Annotated[dict[str, ServedModelSpec], BeforeValidator(_or_empty)] = {}
    macros: Annotated[dict[str, Any], BeforeValidator(_or_empty)] = {}
    groups: Annotated[dict[str, GroupSpec], BeforeValidator(_or_empty)] = {}
    routing: Annotated[RoutingSpec, BeforeValidator(_or_empty)] = RoutingSpec()
    hooks: Annotated[HooksSpec, BeforeValidator(_or_empty)] = HooksSpec()
    global_ttl: Annotated[NonNegativeInt, Field(alias="globalTTL")] = 0
    unload_timeout: Annotated[NonNegativeInt, Field(alias="unloadTimeout")] = 0

    @property
    def all_groups(self) -> Mapping[str, GroupSpec]:
        """Give the groups, wherever they stand."""
        return {**self.routing.router.settings.groups, **self.groups}


@dataclass(frozen=True, slots=True)
class Filled(Source):
    """A file whose macros are put in; places are those of the text."""

    filled: Any = None

    @property
    def tree(self) -> Any:
        """Give the values with macros put in."""
        return self.filled


def parse_llama_swap(
    text: str, environment: Mapping[str, str], *, file: str
) -> tuple[tuple[LlamaSwapSpec, Source] | None, Problems]:
    """Read a configuration and put its macros in; `environment` is what `${env.NAME}` asks for."""
    source, problems = read(text, file=file)
    if source is None or has_errors(problems):
        return None, problems
    tree, found = expand(source, environment)
    filled = Filled(source.file, source.root, source.unread, filled=tree)
    spec, wrong = read_spec(filled, LlamaSwapSpec)
    problems = (*problems, *found, *wrong)
    return (None if spec is None or has_errors(problems) else (spec, filled)), problems
