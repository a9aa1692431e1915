"""Pass 2 of 4: Config + Lock → Catalog.

First everything is checked, each rule in a function of its own; then the Catalog is built, where
every reference is known to be bound. Defaults are applied here and in `compiler.serving`, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from kloros_infra.compiler.checks import CHECKS, LOCK_CHECKS
from kloros_infra.compiler.hardware import figures_of_gpu, local_hosts, reserve_bytes
from kloros_infra.compiler.instance_ports import Ports, instance_ports
from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.resolve_requests import announcements, clients, purposes, remote_hosts, remote_models
from kloros_infra.compiler.rpc_hosts import remote_link, rpc_hosts
from kloros_infra.compiler.serving import serving_of
from kloros_infra.diagnostics import Problems, has_errors, in_order
from kloros_infra.ir.catalog import (
    Card,
    Catalog,
    CostTier,
    Draft,
    HostMemory,
    Instance,
    MeasuredSpeed,
    Model,
    Persona,
    Profile,
    ResponseType,
    Sandbox,
)
from kloros_infra.ir.catalog_services import BridgeAddresses, BusAddresses
from kloros_infra.ir.conditions import Conditions
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import HostSpec, MeasuredSpec, ProfileSpec
from kloros_infra.ir.config_models import DraftSpec, InstanceSpec, ModelSpec
from kloros_infra.ir.config_requests import PersonaSpec, ResponseFormatSpec, ToolSpec
from kloros_infra.ir.config_sandbox import RelaxSpec
from kloros_infra.ir.config_services import BridgeSpec, BusSpec
from kloros_infra.ir.lock import Lock, mmproj_key, weights_key
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.relaxation import Relaxation
from kloros_infra.ir.requests import ClientAccess
from kloros_infra.ir.written import NO_ADDRESS


def resolve(parsed: Parsed, lock: Lock) -> tuple[Catalog | None, Problems]:
    """Bind every name, and every current version to the weights that the lock pins."""
    found = [problem for check in CHECKS for problem in check(parsed)]
    found += [problem for check in LOCK_CHECKS for problem in check(parsed, lock)]
    problems = in_order(found)
    return (None if has_errors(problems) else build_catalog(parsed.config, lock)), problems


def build_catalog(config: Config, lock: Lock) -> Catalog:
    """Build the catalog of a config in which every reference is bound, also to the lock."""
    host = local_hosts(config)[0]
    cards = _cards(config)
    profiles = _profiles(config, cards)
    # A model without versions is served by remote hosts alone: nothing of it is compiled.
    in_use = {spec.id: version for spec in config.models if (version := spec.version_in_use) is not None}
    specs = {spec.id: spec for spec in config.models if spec.id in in_use}
    models = {id: _model(spec, in_use, lock) for id, spec in specs.items()}
    return Catalog(
        host=host,
        llama_server=config.hosts[host].llama_server,
        profiles=tuple(profiles.values()),
        models=tuple(models.values()),
        instances=tuple(_all_instances(config, models, profiles)),
        personas=tuple(map(_persona, config.personas)),
        purposes=tuple(purposes(config)),
        bus=_bus(config.bus),
        bridge=_bridge(config.bridge),
        sandbox=_sandbox(config),
        log_level=config.observability.log_level,
        memory=_memory(config.hosts[host]),
        tensor_overrider=config.hosts[host].tensor_overrider,
        rpc_hosts=tuple(rpc_hosts(config, host)),
        systemd_version=config.hosts[host].systemd,
        keep_generations=config.storage.keep_generations,
        remote_hosts=tuple(remote_hosts(config)),
        remote_models=tuple(remote_models(config)),
        clients=tuple(clients(config)),
        refuses_unknown_clients=config.policies.unknown_clients is ClientAccess.REFUSE,
        data_classes=config.policies.data_classes,
        announcements=announcements(config.observability),
        unused_cards=tuple(_unused(cards.values(), profiles.values(), host)),
        applies_hardware_changes=config.policies.on_gpu_change == "apply",
        metrics_port=config.observability.metrics_port,
    )


def _bus(spec: BusSpec) -> BusAddresses:
    direct = None if spec.direct == NO_ADDRESS else spec.direct
    return BusAddresses(xsub=spec.xsub, xpub=spec.xpub, is_managed=spec.managed, direct=direct, has_voice=spec.voice)


def _bridge(spec: BridgeSpec) -> BridgeAddresses:
    return BridgeAddresses(
        host=spec.host,
        ports=spec.ports,
        credential=spec.credential,
        max_queued=spec.max_queued,
        first_byte_timeout_s=spec.first_byte_timeout,
        stall_timeout_s=spec.stall_timeout,
    )


def _cards(config: Config) -> dict[str, Card]:
    indices = _cuda_indices(config)
    return {
        name: Card(
            name=name,
            host=gpu.host,
            vram_bytes=figures.vram_bytes,
            reserve_bytes=reserve_bytes(gpu, config),
            bandwidth_bytes_per_s=figures.bandwidth_bytes_per_s,
            compute_capability=figures.compute_capability,
            uuid=gpu.uuid,
            pci=gpu.pci,
            cuda_index=indices[name],
            model=gpu.name,
            tflops=gpu.tflops,
            link_bytes_per_s=gpu.link,
            layer_overhead_s=gpu.layer_overhead,
            remote=remote_link(config, gpu.host),
            measured=_measured(gpu.measured),
            is_locked=gpu.lockout,
            shared_with=gpu.shared_with,
        )
        for name, gpu in config.gpus.items()
        # A card without figures is an error by now (compiler.hardware, KI275).
        if (figures := figures_of_gpu(name, gpu)) is not None
    }


def _profiles(config: Config, cards: Mapping[str, Card]) -> dict[str, Profile]:
    return {
        name: Profile(name, tuple(cards[gpu] for gpu in profile.gpus), _conditions(profile))
        for name, profile in config.profiles.items()
    }


def _conditions(spec: ProfileSpec) -> Conditions:
    return Conditions(
        leave_above_bytes=spec.conditions.leave_above,
        take_below_bytes=spec.conditions.take_below,
        regain_after_s=spec.regain_after,
        release_after_s=spec.release_after,
    )


def _unused(cards: Iterable[Card], profiles: Iterable[Profile], host: str) -> Iterator[Card]:
    used = {card.name for profile in profiles for card in profile.cards}
    return (card for card in cards if card.host == host and card.name not in used)


def _memory(host: HostSpec) -> HostMemory:
    return HostMemory(host.memory_bandwidth, host.memory, _measured(host.measured))


def _measured(spec: MeasuredSpec) -> MeasuredSpeed:
    return MeasuredSpeed(spec.decode, spec.prefill)


def _cuda_indices(config: Config) -> dict[str, int]:
    """Number each host's cards in PCI order; cards without a PCI address come last."""
    indices: dict[str, int] = {}
    for host in config.hosts:
        here = [(gpu.pci is None, gpu.pci or "", name) for name, gpu in config.gpus.items() if gpu.host == host]
        indices |= {name: index for index, (_, _, name) in enumerate(sorted(here))}
    return indices


def _model(spec: ModelSpec, in_use: Mapping[str, str], lock: Lock) -> Model:
    version = in_use[spec.id]
    weights = lock.weights[weights_key(spec.id, version)]
    has_projector = any(one.mmproj_url is not None for one in spec.versions if one.version_id == version)
    return Model(
        id=spec.id,
        name=spec.unit_name,
        display_name=spec.id if spec.display_name is None else spec.display_name,
        kind=spec.kind,
        aliases=spec.aliases,
        purpose_tags=spec.purpose_tags,
        languages=spec.languages,
        context_tokens=spec.context_tokens,
        cost_tier=spec.cost_tier or CostTier.of_weights(weights.size_bytes),
        version_id=version,
        weights=weights,
        projector=lock.weights[mmproj_key(spec.id, version)] if has_projector else None,
        chat_template=spec.chat_template,
        draft=_draft(spec.draft, in_use, lock) if spec.draft else None,
        relaxed=_relaxations(spec.relax),
        group=spec.group,
        data_class=spec.data_class,
    )


def _draft(draft: DraftSpec, in_use: Mapping[str, str], lock: Lock) -> Draft:
    version = in_use[draft.model]
    return Draft(
        model_id=draft.model,
        version_id=version,
        weights=lock.weights[weights_key(draft.model, version)],
        max_tokens=draft.max_tokens,
        min_tokens=draft.min_tokens,
        min_probability=draft.min_probability,
    )


def _all_instances(config: Config, models: Mapping[str, Model], profiles: Mapping[str, Profile]) -> Iterator[Instance]:
    for spec, ports in zip(config.models, instance_ports(config), strict=True):
        if spec.id in models:
            yield from _instances(spec, models[spec.id], config, profiles, ports)


def _instances(
    spec: ModelSpec, model: Model, config: Config, profiles: Mapping[str, Profile], ports: Ports
) -> Iterator[Instance]:
    for name, instance in spec.profiles.items():
        if instance is not None:
            yield Instance(
                id=InstanceId(model=model.name, profile=name),
                model=model,
                profile=profiles[name],
                port=ports[name],
                has_own_port=instance.port is not None,
                serving=serving_of(instance, spec, config.defaults),
                gpu_percentages=instance.gpu_percentages,
                layers=_layers(instance, profiles[name]),
            )


def _layers(instance: InstanceSpec, profile: Profile) -> tuple[int, ...] | None:
    """Put the counts into the order of the profile's cards; a card that is not named gets none."""
    if instance.layers is None:
        return None
    return tuple(instance.layers.get(card.name, 0) for card in profile.cards)


def _persona(spec: PersonaSpec) -> Persona:
    return Persona(
        id=spec.id,
        model_id=spec.base_model,
        aliases=spec.aliases,
        display_name=spec.display_name or spec.id,
        system_prompt=spec.system_prompt,
        sampling=tuple(spec.sampling.model_dump(exclude_none=True).items()),
        stop=spec.stop,
        response_format=_response_format(spec.id, spec.response_format),
        tools=json.dumps([_tool(tool) for tool in spec.tools]) if spec.tools else None,
    )


def _response_format(persona: str, spec: ResponseFormatSpec | None) -> str | None:
    """Say the form of answers as OpenAI's API does; a schema has a name there, and free text is what holds anyway."""
    if spec is None or spec.type is ResponseType.TEXT:
        return None
    if spec.type is ResponseType.JSON_OBJECT:
        return json.dumps({"type": spec.type.value})
    schema = {"name": persona, "schema": spec.json_schema}
    return json.dumps({"type": spec.type.value, "json_schema": schema})


def _tool(spec: ToolSpec) -> dict[str, object]:
    return {"type": "function", "function": spec.model_dump()}


def _relaxations(specs: Iterable[RelaxSpec]) -> tuple[Relaxation, ...]:
    return tuple(Relaxation(spec.directives, spec.because) for spec in specs)


def _sandbox(config: Config) -> Sandbox:
    return Sandbox(
        read_only_paths=config.sandbox.read_only_paths,
        memory_headroom_bytes=config.sandbox.memory_headroom,
        cpu_weight=config.sandbox.cpu_weight,
        io_weight=config.sandbox.io_weight,
        exposure_limit=config.sandbox.security_threshold,
        relaxed=_relaxations(config.sandbox.relax),
    )
