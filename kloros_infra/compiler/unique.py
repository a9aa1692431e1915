"""Checks that what must be unique is: names, versions, ports (KI203, KI208, KI212, KI213, KI225)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config, ModelSpec, port_of
from kloros_infra.ir.names import InstanceId

FIRST_UNPRIVILEGED_PORT = 1024
# Linux gives outgoing connections ports from here (ip_local_port_range in the kernel's networking/ip-sysctl.rst).
EPHEMERAL_PORTS = range(32768, 61000)


@dataclass(frozen=True, slots=True)
class _Call:
    """A name by which clients may ask for a model or persona."""

    name: str
    owner: str
    address: Address


def check_names(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find names that could mean two models or personas: requests and units tell them apart by these alone."""
    owners: dict[str, _Call] = {}
    for call in _calls(parsed.config):
        first = owners.setdefault(call.name, call)
        if first.address[:2] != call.address[:2]:
            line = parsed.source.span(first.address).line
            problem = Diagnostic(
                code="KI208",
                summary="Name used twice",
                detail=f"{call.name!r} stands for {call.owner} here and for {first.owner} in line {line}.",
                hint="Give each id, name, alias and persona a name of its own.",
            )
            yield parsed.locate(problem, call.address)


def _calls(config: Config) -> Iterator[_Call]:
    for index, model in enumerate(config.models):
        owner = f"the model {model.id}"
        yield _Call(model.id, owner, ("models", index, "id"))
        if model.name is not None:
            yield _Call(model.name, owner, ("models", index, "name"))
        for place, alias in enumerate(model.aliases):
            yield _Call(alias, owner, ("models", index, "aliases", place))
    for index, persona in enumerate(config.personas):
        yield _Call(persona.id, f"the persona {persona.id}", ("personas", index, "id"))


def check_versions(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find versions that a model lists twice."""
    for index, model in enumerate(parsed.config.models):
        seen: set[str] = set()
        for place, version in enumerate(model.versions):
            if version.version_id in seen:
                detail = f"The model {model.id} has two versions {version.version_id!r}."
                problem = Diagnostic("KI225", "Version listed twice", detail, "Give each version an id of its own.")
                yield parsed.locate(problem, ("models", index, "versions", place, "version_id"))
            seen.add(version.version_id)


@dataclass(frozen=True, slots=True)
class _Listener:
    """Something that will listen on a port."""

    port: int
    name: str
    address: Address


def check_ports(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find ports that two services want or that a service of ours cannot count on."""
    taken: dict[int, _Listener] = {}
    for listener in _listeners(parsed.config):
        first = taken.setdefault(listener.port, listener)
        if first is not listener:
            yield parsed.locate(_used_twice(listener, first), listener.address)
        if listener.port < FIRST_UNPRIVILEGED_PORT:
            yield parsed.locate(_privileged(listener), listener.address)
        if listener.port in EPHEMERAL_PORTS:
            yield parsed.locate(_ephemeral(listener), listener.address)


def _listeners(config: Config) -> Iterator[_Listener]:
    yield _Listener(port_of(config.bus.xsub), "ChemBus (xsub)", ("bus", "xsub"))
    yield _Listener(port_of(config.bus.xpub), "ChemBus (xpub)", ("bus", "xpub"))
    for index, port in enumerate(config.bridge.ports):
        yield _Listener(port, "the HTTP bridge", ("bridge", "ports", index))
    for index, model in enumerate(config.models):
        yield from _listeners_of_model(model, index)


def _listeners_of_model(model: ModelSpec, index: int) -> Iterator[_Listener]:
    for profile, instance in model.profiles.items():
        if instance is not None:
            unit = InstanceId(model.unit_name, profile).unit
            yield _Listener(instance.port, unit, ("models", index, "profiles", profile, "port"))


def _used_twice(listener: _Listener, first: _Listener) -> Diagnostic:
    # Instances of different profiles may not share one either: while the profile changes, both run.
    return Diagnostic(
        code="KI203",
        summary="Port used twice",
        detail=f"Both {first.name} and {listener.name} ask for port {listener.port}.",
        hint="Give one of them another port.",
    )


def _privileged(listener: _Listener) -> Diagnostic:
    return Diagnostic(
        code="KI212",
        summary="Privileged port",
        detail=f"{listener.name} asks for port {listener.port}, which only root may listen on.",
        hint=f"Use a port from {FIRST_UNPRIVILEGED_PORT} on.",
    )


def _ephemeral(listener: _Listener) -> Diagnostic:
    return Diagnostic(
        code="KI213",
        summary="Port in the ephemeral range",
        detail=f"{listener.name} asks for port {listener.port}; an outgoing connection may hold it when it starts.",
        hint=f"Use a port below {EPHEMERAL_PORTS.start}.",
        severity=Severity.WARNING,
    )
