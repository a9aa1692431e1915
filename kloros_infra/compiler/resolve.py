"""Pass 2 of 4: Config + Lock → Catalog.

First everything is checked, each rule in a function of its own; then the Catalog is built, where
every reference is known to be bound. Defaults are applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kloros_infra.compiler.hardware import (
    check_gpus,
    check_hosts,
    check_percentages,
    check_profiles,
    compute_capability,
    local_hosts,
    reserve_bytes,
)
from kloros_infra.compiler.locked import check_lock
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.purposes import check_circles, check_default, check_personas, check_reach, default_purpose
from kloros_infra.compiler.references import check_references, check_use
from kloros_infra.compiler.unique import check_names, check_ports, check_versions
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.ir.catalog import (
    BridgeAddresses,
    BusAddresses,
    Card,
    Catalog,
    Instance,
    Model,
    Persona,
    Profile,
    Purpose,
)
from kloros_infra.ir.config import Config, ModelSpec, PersonaSpec
from kloros_infra.ir.lock import Lock, weights_key
from kloros_infra.ir.names import InstanceId

CHECKS: tuple[Callable[[Parsed], Iterator[Diagnostic]], ...] = (
    check_hosts,
    check_gpus,
    check_profiles,
    check_references,
    check_use,
    check_names,
    check_versions,
    check_ports,
    check_percentages,
    check_personas,
    check_default,
    check_circles,
    check_reach,
)


def resolve(parsed: Parsed, lock: Lock) -> tuple[Catalog | None, Problems]:
    """Bind every name, and every current version to the weights that the lock pins."""
    found = [problem for check in CHECKS for problem in check(parsed)]
    problems = in_order((*found, *check_lock(parsed, lock)))
    return (None if has_errors(problems) else _catalog(parsed.config, lock)), problems


def _catalog(config: Config, lock: Lock) -> Catalog:
    host = local_hosts(config)[0]
    cards = _cards(config)
    profiles = {
        name: Profile(name=name, cards=tuple(cards[gpu] for gpu in profile.gpus))
        for name, profile in config.profiles.items()
    }
    models = {spec.id: _model(spec, config, lock) for spec in config.models}
    return Catalog(
        host=host,
        llama_server=config.hosts[host].llama_server,
        profiles=tuple(profiles.values()),
        models=tuple(models.values()),
        instances=tuple(instance for spec in config.models for instance in _instances(spec, models[spec.id], profiles)),
        personas=tuple(_persona(spec) for spec in config.personas),
        purposes=_purposes(config),
        bus=BusAddresses(xsub=config.bus.xsub, xpub=config.bus.xpub, is_managed=config.bus.managed),
        bridge=BridgeAddresses(host=config.bridge.host, ports=config.bridge.ports),
    )


def _cards(config: Config) -> dict[str, Card]:
    indices = _cuda_indices(config)
    return {
        name: Card(
            name=name,
            host=gpu.host,
            vram_bytes=gpu.vram,
            reserve_bytes=reserve_bytes(gpu, config),
            bandwidth_bytes_per_s=gpu.bandwidth,
            compute_capability=compute_capability(gpu),
            uuid=gpu.uuid,
            pci=gpu.pci,
            cuda_index=indices[name],
        )
        for name, gpu in config.gpus.items()
    }


def _cuda_indices(config: Config) -> dict[str, int]:
    """Number each host's cards in PCI order; cards without a PCI address come last."""
    indices: dict[str, int] = {}
    for host in config.hosts:
        here = [(gpu.pci is None, gpu.pci or "", name) for name, gpu in config.gpus.items() if gpu.host == host]
        indices |= {name: index for index, (_, _, name) in enumerate(sorted(here))}
    return indices


def _model(spec: ModelSpec, config: Config, lock: Lock) -> Model:
    defaults = config.defaults
    return Model(
        id=spec.id,
        name=spec.unit_name,
        display_name=spec.display_name,
        kind=spec.kind,
        aliases=spec.aliases,
        purpose_tags=spec.purpose_tags,
        languages=spec.languages,
        context_tokens=spec.context_tokens,
        cost_tier=spec.cost_tier,
        version_id=spec.current_version,
        weights=lock.weights[weights_key(spec.id, spec.current_version)],
        parallel=defaults.parallel if spec.parallel is None else spec.parallel,
        preload=defaults.preload if spec.preload is None else spec.preload,
        placement=defaults.placement if spec.placement is None else spec.placement,
    )


def _instances(spec: ModelSpec, model: Model, profiles: dict[str, Profile]) -> Iterator[Instance]:
    for name, instance in spec.profiles.items():
        if instance is not None:
            yield Instance(
                id=InstanceId(model=model.name, profile=name),
                model=model,
                profile=profiles[name],
                port=instance.port,
                gpu_percentages=instance.gpu_percentages,
            )


def _persona(spec: PersonaSpec) -> Persona:
    return Persona(
        id=spec.id,
        model_id=spec.base_model,
        system_prompt=spec.system_prompt,
        sampling=tuple(spec.sampling.model_dump(exclude_none=True).items()),
        stop=spec.stop,
    )


def _purposes(config: Config) -> tuple[Purpose, ...]:
    default = default_purpose(config)
    return tuple(
        Purpose(
            name=name,
            candidates=purpose.candidates,
            otherwise=purpose.otherwise,
            is_default=name == default,
        )
        for name, purpose in config.purposes.items()
    )
