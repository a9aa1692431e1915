"""Checks that names and ports are unique, and that ports can be counted on (KI203, KI208, KI212, KI213, KI268)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kloros_infra.compiler.instance_ports import EPHEMERAL_PORTS, FIRST_UNPRIVILEGED_PORT, instance_ports, left_out
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.source import Address
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.config import Config
from kloros_infra.ir.names import InstanceId


class _Call(NamedTuple):
    """A name by which clients may ask for a model or persona."""

    name: str
    owner: str
    address: Address

    def said_as(self, other: str) -> str:
        """Say whom it stands for, and its own spelling where that differs."""
        return f"for {self.owner}" if self.name == other else f"as {self.name!r} for {self.owner}"


def check_names(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find names that could mean two models or personas: requests and units tell them apart by these alone."""
    owners: dict[str, _Call] = {}
    for call in _calls(parsed.config):
        # To those who ask, `name` and `name:latest` are one, as in Ollama.
        first = owners.setdefault(call.name.removesuffix(":latest"), call)
        if first.address[:2] != call.address[:2]:
            problem = Diagnostic(
                code="KI208",
                summary="Name used twice",
                detail=f"{call.name!r} stands for {call.owner} here and {first.said_as(call.name)} in"
                f" {_place(first, call, parsed)}.",
                hint="Give each id, name, alias and persona a name of its own.",
            )
            yield parsed.locate(problem, call.address)


def _place(first: _Call, second: _Call, parsed: Parsed) -> str:
    """Say where the first of two stands, for who looks at the second."""
    span, here = parsed.source.span(first.address), parsed.source.span(second.address)
    return f"line {span.line}" if span.file == here.file else f"{span.file}, line {span.line}"


def check_spelling(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find names of different models or personas that differ only in upper and lower case."""
    owners: dict[str, _Call] = {}
    for call in _calls(parsed.config):
        first = owners.setdefault(call.name.removesuffix(":latest").lower(), call)
        is_same = first.name.removesuffix(":latest") == call.name.removesuffix(":latest")
        if first.address[:2] != call.address[:2] and not is_same:
            problem = Diagnostic(
                code="KI268",
                summary="Names that differ only in case",
                detail=f"{call.name!r} stands for {call.owner}, and {first.name!r} in {_place(first, call, parsed)} for"
                f" {first.owner}.",
                hint="Requests tell the two apart, people hardly do: give one of them another name.",
                severity=Severity.WARNING,
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
        owner = f"the persona {persona.id}"
        yield _Call(persona.id, owner, ("personas", index, "id"))
        for place, alias in enumerate(persona.aliases):
            yield _Call(alias, owner, ("personas", index, "aliases", place))


class Listener(NamedTuple):
    """Something that will listen on a port."""

    port: int
    name: str
    address: Address


def check_ports(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find ports that two services want or that a service of ours cannot count on."""
    taken: dict[int, Listener] = {}
    for listener in listeners(parsed.config):
        first = taken.setdefault(listener.port, listener)
        if first is not listener:
            yield parsed.locate(_used_twice(listener, first), listener.address)
        if listener.port < FIRST_UNPRIVILEGED_PORT:
            yield parsed.locate(_privileged(listener), listener.address)
        if listener.port in EPHEMERAL_PORTS:
            yield parsed.locate(_ephemeral(listener), listener.address)


def listeners(config: Config) -> Iterator[Listener]:
    """List everything of ours on this host that listens on a port."""
    for name, port in config.bus.listening.items():
        yield Listener(port, f"ChemBus ({name})", ("bus", name))
    for index, port in enumerate(config.bridge.ports):
        yield Listener(port, "the HTTP bridge", ("bridge", "ports", index))
    if config.observability.metrics_port is not None:
        yield Listener(config.observability.metrics_port, "the metrics", ("observability", "metrics_port"))
    for index, (model, ports) in enumerate(zip(config.models, instance_ports(config), strict=True)):
        derived = left_out(model)
        for profile, port in ports.items():
            address = ("models", index, "profiles", profile, *(() if profile in derived else ("port",)))
            yield Listener(port, InstanceId(model.unit_name, profile).unit, address)


def _used_twice(listener: Listener, first: Listener) -> Diagnostic:
    # Instances of different profiles may not share one either: while the profile changes, both run.
    is_same = first.name == listener.name
    return Diagnostic(
        code="KI203",
        summary="Port used twice",
        detail=f"Port {listener.port} is listed twice for {listener.name}."
        if is_same
        else f"Both {first.name} and {listener.name} ask for port {listener.port}.",
        hint="List each port once." if is_same else _other_port(listener, first),
    )


def _other_port(listener: Listener, first: Listener) -> str:
    if listener.address[:3] == first.address[:3]:
        return "Give one of them another port, or leave this one out: started alike, both are one instance."
    return "Give one of them another port."


def _privileged(listener: Listener) -> Diagnostic:
    return Diagnostic(
        code="KI212",
        summary="Privileged port",
        detail=f"{listener.name} asks for port {listener.port}, which only root may listen on.",
        hint=f"Use a port from {FIRST_UNPRIVILEGED_PORT} on.",
    )


def _ephemeral(listener: Listener) -> Diagnostic:
    return Diagnostic(
        code="KI213",
        summary="Port in the ephemeral range",
        detail=f"{listener.name} asks for port {listener.port}; an outgoing connection may hold it when it starts.",
        hint=f"Use a port below {EPHEMERAL_PORTS.start}.",
        severity=Severity.WARNING,
    )
