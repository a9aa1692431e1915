"""The port of each instance: as given, or the next free one after the first that its model is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec

Ports = Mapping[str, int]
"""One model's ports by profile."""
FIRST_UNPRIVILEGED_PORT, LAST_PORT = 1024, 65535
# Linux gives outgoing connections ports from here (ip_local_port_range in the kernel's networking/ip-sysctl.rst).
EPHEMERAL_PORTS = range(32768, 61000)
FIRST_PORT = 8601
"""Where the design document begins to number instances."""


def instance_ports(config: Config) -> tuple[Ports, ...]:
    """Give each model's ports, in the order of the file; what is left out never takes a port that is given."""
    taken = set(_given(config))
    found = []
    for model in config.models:
        ports = {name: instance.port for name, instance in model.profiles.items() if instance and instance.port}
        free = (port for port in _upward(min(ports.values(), default=FIRST_PORT)) if port not in taken)
        for name in left_out(model):
            ports[name] = next(free)
            taken.add(ports[name])
        found.append({name: ports[name] for name in model.profiles if name in ports})
    return tuple(found)


def left_out(model: ModelSpec) -> tuple[str, ...]:
    """Name the profiles under which a model runs and is not given a port."""
    return tuple(name for name, instance in model.profiles.items() if instance and instance.port is None)


def _given(config: Config) -> Iterator[int]:
    yield from config.bus.listening.values()
    yield from config.bridge.ports
    if config.observability.metrics_port is not None:
        yield config.observability.metrics_port
    for model in config.models:
        yield from (instance.port for instance in model.profiles.values() if instance and instance.port)


def _upward(first: int) -> Iterator[int]:
    """Count up to the last port, then from where users' ports begin; only ports that can be counted on."""
    ports = chain(range(first, LAST_PORT + 1), range(FIRST_UNPRIVILEGED_PORT, first))
    return (port for port in ports if port >= FIRST_UNPRIVILEGED_PORT and port not in EPHEMERAL_PORTS)
