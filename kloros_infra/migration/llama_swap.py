"""llama-swap's configuration → its models in our words, as far as llama-server serves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source import Address, Source
from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.ir.config_requests import SamplingSpec
from kloros_infra.ir.names import as_name
from kloros_infra.migration import problems
from kloros_infra.migration.command_line import server_words, split_command
from kloros_infra.migration.described import Described, Variant
from kloros_infra.migration.llama_swap_file import LlamaSwapSpec, ServedModelSpec
from kloros_infra.migration.macros import unfilled
from kloros_infra.migration.served import Served, read_settings
from kloros_infra.migration.settings import Setting, settings_of_variables, settings_of_words
from kloros_infra.migration.taken_over import Row, SamplingValue

# Keys without a counterpart that lose nothing: llama-swap's own screens, logs and figures.
_OF_NO_INTEREST = frozenset({
    "captureBuffer", "checkEndpoint", "compat", "healthCheckTimeout", "includeAliasesInList", "logLevel", "logRequests",
    "logTimeFormat", "logToStdout", "macros", "metadata", "metricsMaxInMemory", "performance", "proxy",
    "sendLoadingState", "startPort", "store", "ui", "upstream",
})  # fmt: skip
_PLACES: Mapping[str, str] = {
    "apiKeys": "keys are a credential here, named by `bridge.credential`",
    "capabilities": "`kind` and `context_tokens` say it here",
    "cmdStop": "units are stopped by their service manager",
    "concurrencyLimit": "requests wait instead of being refused; `parallel` says how many run",
    "description": "there is no place for it but a comment",
    "matrix": "which models run together follows from the memory they need",
    "peers": "remote hosts are declared under `hosts`",
    "profiles": "purposes choose among models here",
    "selectors": "purposes choose among models here",
    "timeouts": "the bridge has timeouts of its own",
    "unlisted": "every model is listed here",
}
_CARDS_VARIABLES = frozenset(
    {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
)
# OpenAI's names of what SamplingSpec calls as llama-server does.
_PARAMETERS = {"max_completion_tokens": "max_tokens", "n_predict": "max_tokens", "repetition_penalty": "repeat_penalty"}


def describe_llama_swap(spec: LlamaSwapSpec, source: Source) -> tuple[tuple[Described, ...], tuple[Row, ...], Problems]:
    """Describe a configuration's models; rows say what is lost of the rest, and of models that cannot be served."""
    reading = _Reading(spec, source)
    described = tuple(found for name, model in spec.models.items() if (found := reading.model(name, model)))
    return described, (*reading.rows, *reading.of_the_rest()), (*reading.problems, *reading.members())


class _Reading:
    """Goes through the models of one configuration."""

    def __init__(self, spec: LlamaSwapSpec, source: Source) -> None:
        self.rows: list[Row] = []
        self.problems: list[Diagnostic] = []
        self._spec = spec
        self._source = source
        self._preloaded = {name.strip() for name in spec.hooks.on_startup.preload}
        self._is_by_group = spec.routing.router.use != "matrix"

    def model(self, name: str, model: ServedModelSpec) -> Described | None:
        """Describe a model; None where no llama-server serves it, with a row that says so."""
        words = self._words(name, model.cmd)
        if words is None:
            return None
        behind = server_words(words)
        if behind is None:
            program = printable(words[0])[:60] if words else "nothing"
            self.rows.append(Row(name, notes=(f"its command runs {program}, not llama-server",)))
            return None
        settings, stray = settings_of_words(behind, self._source.span(("models", name, "cmd")))
        variables, others = self._variables(name, model.env)
        served = read_settings((*variables, *settings))
        notes = [*others, *self._notes(model), *(f"{printable(word)} left out: no option" for word in stray)]
        self._lifetime(served, name, model, notes)
        variants = tuple(self._variants(name, model, notes))
        group, pin = self._group(name, notes)
        by_id = {variant.name for variant in variants} - {name}
        aliases = tuple(alias for alias in model.aliases if alias not in by_id)
        return Described(name, served, model.name, aliases, group, pin, variants, tuple(notes))

    def members(self) -> Iterator[Diagnostic]:
        """Find names in groups and hooks that no model has; llama-swap passes over them."""
        aliases = (alias for model in self._spec.models.values() for alias in model.aliases)
        known = tuple(dict.fromkeys((*self._spec.models, *aliases)))
        for place in (("groups",), ("routing", "router", "settings", "groups")):
            for group, settings in self._groups_at(place).items():
                for index, member in enumerate(settings):
                    if member not in known:
                        address = (*place, group, "members", index)
                        yield problems.unknown_member(self._source.span(address), group, member, known)
        for index, name in enumerate(self._spec.hooks.on_startup.preload):
            if name.strip() and name.strip() not in known:
                address = ("hooks", "on_startup", "preload", index)
                yield problems.unknown_member(self._source.span(address), "preload", name, known)

    def of_the_rest(self) -> Iterator[Row]:
        """Say what of the configuration beside its models has no place, or another one."""
        names = [name for name in self._spec.others if name not in _OF_NO_INTEREST]
        if not self._is_by_group:
            names.append("matrix")
        notes = tuple(f"{printable(name)}: {_PLACES.get(name, 'not known here')}" for name in dict.fromkeys(names))
        if notes:
            yield Row("(the rest of the file)", notes=notes)

    def _groups_at(self, place: Address) -> Mapping[str, tuple[str, ...]]:
        groups = self._spec.groups if place == ("groups",) else self._spec.routing.router.settings.groups
        return {name: group.members for name, group in groups.items()}

    def _words(self, name: str, command: str) -> tuple[str, ...] | None:
        span = self._source.span(("models", name, "cmd"))
        left = unfilled(command)
        if left is not None:
            self.rows.append(Row(name, notes=(f"its command needs {left}, which nothing defines",)))
            return None
        try:
            return split_command(command)
        except ValueError as error:
            self.problems.append(problems.bad_command(span, name, str(error).lower()))
            self.rows.append(Row(name, notes=("its command is not understood, see above",)))
            return None

    def _variables(self, name: str, entries: Sequence[str]) -> tuple[list[Setting], list[str]]:
        found = tuple(settings_of_variables(entries, self._source.span(("models", name, "env"))))
        others = [one for one in found if isinstance(one, str)]
        of_cards = [one for one in others if one in _CARDS_VARIABLES]
        notes = [f"{', '.join(of_cards)} left out: profiles say which cards a model is on"] if of_cards else []
        notes += [
            f"{printable(one)} left out: units have variables of their own" for one in others if one not in of_cards
        ]
        return [one for one in found if isinstance(one, Setting)], notes

    def _notes(self, model: ServedModelSpec) -> Iterator[str]:
        names = [name for name in model.others if name not in _OF_NO_INTEREST]
        yield from (f"{printable(name)} left out: {_PLACES.get(name, 'not known here')}" for name in names)
        if model.filters.strip_params:
            yield f"stripParams left out: {printable(model.filters.strip_params)} of requests count here"

    def _lifetime(self, served: Served, name: str, model: ServedModelSpec, notes: list[str]) -> None:
        names = {name, *model.aliases}
        served.preload = bool(names & self._preloaded)
        served.drain_s = served.drain_s or model.unload_timeout or self._spec.unload_timeout or None
        idle_s = model.ttl if model.ttl >= 0 else self._spec.global_ttl
        if idle_s:
            served.idle_timeout_s = idle_s
        else:
            notes.append("without a ttl it stayed until another model took its place; here idle_timeout counts")

    def _group(self, name: str, notes: list[str]) -> tuple[str | None, bool | None]:
        """Say which models it takes turns with, and whether it is never stopped."""
        groups = self._spec.all_groups.items() if self._is_by_group else ()
        for group, settings in groups:
            if name not in settings.members:
                continue
            if settings.exclusive and len(self._spec.all_groups) > 1:
                notes.append(f"group {printable(group)}: that it stops all others has no place here; memory decides")
            takes_turns = settings.swap and len(settings.members) > 1
            return as_name(group) or "group" if takes_turns else None, settings.persistent or None
        return None, None

    def _variants(self, name: str, model: ServedModelSpec, notes: list[str]) -> Iterator[Variant]:
        """List the names whose requests get values set; those of the model's own name first."""
        filters = model.filters
        common = dict(filters.set_params)
        by_id = dict(filters.set_params_by_id)
        own = {**common, **by_id.pop(name, {})}
        for who, parameters in ((name, own), *((one, {**common, **more}) for one, more in by_id.items())):
            sampling, stop, lost = _sampling(parameters)
            if lost:
                notes.append(f"set for {printable(who)} and left out: {', '.join(map(printable, lost))}")
            if sampling or stop:
                yield Variant(who, sampling, stop)
            elif who != name:
                notes.append(f"the name {printable(who)} left out: nothing of what it sets has a place here")


def _sampling(parameters: Mapping[str, Any]) -> tuple[dict[str, SamplingValue], tuple[str, ...], list[str]]:
    """Sort parameters of requests: sampling, stops, and what a persona cannot hold."""
    sampling: dict[str, SamplingValue] = {}
    stop: tuple[str, ...] = ()
    lost: list[str] = []
    for name, value in parameters.items():
        key = _PARAMETERS.get(name, name)
        if key == "stop":
            stop = tuple(
                text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text
            )
        elif key in SamplingSpec.model_fields and _is_accepted(key, value):
            sampling[key] = value
        else:
            lost.append(name)
    return sampling, stop, lost


def _is_accepted(key: str, value: Any) -> bool:
    try:
        SamplingSpec.model_validate({key: value})
    except ValidationError:
        return False
    return value is not None
