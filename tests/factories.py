"""Small builders of the values that pass between the rooms: every argument has a plausible default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kloros_infra.compiler.locked import lockables
from kloros_infra.ir.catalog import (
    OLDEST_SYSTEMD,
    ArgumentValue,
    Card,
    Catalog,
    CostTier,
    Draft,
    Instance,
    KvType,
    Model,
    ModelKind,
    Persona,
    PlacementMode,
    Profile,
    Purpose,
    Sandbox,
    Serving,
)
from kloros_infra.ir.catalog_services import BridgeAddresses, BusAddresses
from kloros_infra.ir.config import Config
from kloros_infra.ir.gguf import PROJECTOR_ARCHITECTURE, GgufHeader, Tensor, group_tensors
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, Origin, weights_key
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.on_change import OnChange
from kloros_infra.ir.relaxation import Relaxation
from kloros_infra.ir.requests import Priority, UpstreamKind
from kloros_infra.ir.routing import (
    RoutedBridge,
    RoutedBus,
    RoutedModel,
    RoutedPersona,
    RoutedProfile,
    RoutedPurpose,
    RoutingTable,
    Upstream,
)
from kloros_infra.router.effects import Send, Target

GIB = 2**30
A_SHA256 = "0123456789abcdef" * 4
Q4_0_BLOCK = (32, 18)
"""Values per block and bytes per block (ggml-common.h, block_q4_0)."""


def a_tensor(name: str, *shape: int, type: str = "Q4_0") -> Tensor:
    """Build a row of a tensor table; Q4_0 and F32 know their size."""
    values = 1
    for extent in shape:
        values *= extent
    size_bytes = values * 4 if type == "F32" else values // Q4_0_BLOCK[0] * Q4_0_BLOCK[1]
    return Tensor(name=name, type=type, shape=shape, size_bytes=size_bytes)


def a_gguf_header(
    *,
    layers: int = 2,
    architecture: str = "qwen2",
    embedding: int = 64,
    feed_forward: int = 128,
    heads: int = 4,
    kv_heads: int = 2,
    context: int = 32768,
    vocabulary: int = 512,
    has_tied_embeddings: bool = False,
) -> GgufHeader:
    """Build a dense model's header with a full tensor table."""
    head = embedding // heads
    tensors = [a_tensor("token_embd.weight", embedding, vocabulary)]
    for layer in range(layers):
        tensors += (
            a_tensor(f"blk.{layer}.attn_norm.weight", embedding, type="F32"),
            a_tensor(f"blk.{layer}.attn_q.weight", embedding, heads * head),
            a_tensor(f"blk.{layer}.attn_k.weight", embedding, kv_heads * head),
            a_tensor(f"blk.{layer}.attn_v.weight", embedding, kv_heads * head),
            a_tensor(f"blk.{layer}.attn_output.weight", heads * head, embedding),
            a_tensor(f"blk.{layer}.ffn_norm.weight", embedding, type="F32"),
            a_tensor(f"blk.{layer}.ffn_gate.weight", embedding, feed_forward),
            a_tensor(f"blk.{layer}.ffn_up.weight", embedding, feed_forward),
            a_tensor(f"blk.{layer}.ffn_down.weight", feed_forward, embedding),
        )
    tensors.append(a_tensor("output_norm.weight", embedding, type="F32"))
    if not has_tied_embeddings:
        tensors.append(a_tensor("output.weight", embedding, vocabulary))
    return GgufHeader(
        architecture=architecture,
        layer_count=layers,
        embedding_length=embedding,
        feed_forward_length=feed_forward,
        head_count=heads,
        head_count_kv=(kv_heads,) * layers,
        key_length=head,
        value_length=head,
        context_length=context,
        vocabulary_size=vocabulary,
        tensors=group_tensors(tensors),
    )


def a_7b_header() -> GgufHeader:
    """Build the header of a Qwen2.5 7B: 28 layers, 28 heads, 4 of them for keys and values."""
    return a_gguf_header(
        layers=28, embedding=3584, feed_forward=18944, heads=28, kv_heads=4, context=32768, vocabulary=152064
    )


def a_projector_header() -> GgufHeader:
    """Build the header of a vision model's second file: a tensor table, and zeros."""
    feed_forward = a_tensor("v.blk.0.ffn_up.weight", 1152, 4304)
    positions = a_tensor("v.position_embd.weight", 1152, 4096, type="F32")
    return GgufHeader(
        PROJECTOR_ARCHITECTURE, 0, 0, 0, 0, (), 0, 0, 0, 0, tensors=group_tensors((feed_forward, positions))
    )


def some_weights(
    key: str = "small@1",
    *,
    origin: Origin = Origin.FILE,
    source: tuple[str, ...] = ("file:///weights/small.gguf",),
    header: GgufHeader | None = None,
    size_bytes: int | None = None,
) -> LockedWeights:
    """Build one version's pinned weights; derived ones have no file and no sha256."""
    header = header or a_gguf_header()
    size = header.weights_bytes if size_bytes is None else size_bytes
    is_derived = origin is Origin.DERIVED
    return LockedWeights(
        key=key,
        origin=origin,
        source=source,
        revision=None,
        files=() if is_derived else (LockedFile(source=source[0], size_bytes=size, sha256=A_SHA256),),
        size_bytes=size,
        sha256=None if is_derived else A_SHA256,
        header=header,
    )


def a_lock(*weights: LockedWeights) -> Lock:
    """Build a lock of these weights; one default entry if none are given."""
    return Lock(weights={entry.key: entry for entry in weights or (some_weights(),)})


def a_card(
    name: str = "rtx3060",
    *,
    host: str = "astraea",
    vram_bytes: int = 12 * GIB,
    reserve_bytes: int = GIB // 2,
    bandwidth_bytes_per_s: int = 360 * 10**9,
    compute_capability: tuple[int, int] = (8, 6),
    uuid: str | None = None,
    pci: str | None = "0000:04:00.0",
    cuda_index: int = 0,
) -> Card:
    """Build a card; by default the 3060 of the design document."""
    return Card(
        name=name,
        host=host,
        vram_bytes=vram_bytes,
        reserve_bytes=reserve_bytes,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        compute_capability=compute_capability,
        uuid=uuid,
        pci=pci,
        cuda_index=cuda_index,
    )


def kloros_cards() -> tuple[Card, Card, Card]:
    """Build the three cards of the design document, in the order of its profile max."""
    return (
        a_card(
            "rtx5080",
            vram_bytes=16 * GIB,
            bandwidth_bytes_per_s=960 * 10**9,
            compute_capability=(12, 0),
            pci="0000:01:00.0",
            cuda_index=0,
        ),
        a_card("rtx3060", cuda_index=1),
        a_card(
            "gtx1080ti",
            vram_bytes=11 * GIB,
            bandwidth_bytes_per_s=484 * 10**9,
            compute_capability=(6, 1),
            pci="0000:07:00.0",
            cuda_index=2,
        ),
    )


def a_profile(name: str = "cpu_only", *cards: Card) -> Profile:
    """Build a profile; without cards it is cpu_only."""
    return Profile(name=name, cards=cards)


def a_model(
    id: str = "small",
    *,
    name: str | None = None,
    kind: ModelKind = ModelKind.CHAT,
    aliases: tuple[str, ...] = (),
    purpose_tags: tuple[str, ...] = ("fast",),
    languages: tuple[str, ...] = (),
    context_tokens: int = 2048,
    cost_tier: CostTier = CostTier.LOW,
    version_id: str = "1",
    weights: LockedWeights | None = None,
    projector: LockedWeights | None = None,
    chat_template: str | None = None,
    draft: Draft | None = None,
    relaxed: tuple[Relaxation, ...] = (),
) -> Model:
    """Build a model; its weights are named after it."""
    return Model(
        id=id,
        name=name or id,
        display_name=id.replace("-", " ").title(),
        kind=kind,
        aliases=aliases,
        purpose_tags=purpose_tags,
        languages=languages,
        context_tokens=context_tokens,
        cost_tier=cost_tier,
        version_id=version_id,
        weights=weights or some_weights(weights_key(id, version_id)),
        projector=projector,
        chat_template=chat_template,
        draft=draft,
        relaxed=relaxed,
    )


def a_draft(
    model_id: str = "tiny",
    *,
    version_id: str = "1",
    weights: LockedWeights | None = None,
    max_tokens: int = 3,
    min_tokens: int = 0,
    min_probability: float = 0.0,
) -> Draft:
    """Build the small model of another one."""
    return Draft(
        model_id=model_id,
        version_id=version_id,
        weights=weights or some_weights(weights_key(model_id, version_id)),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        min_probability=min_probability,
    )


def a_serving(
    *,
    context_tokens: int = 2048,
    parallel: int = 1,
    cache_type_k: KvType = KvType.F16,
    cache_type_v: KvType = KvType.F16,
    placement: PlacementMode = PlacementMode.AUTO,
    preload: bool = True,
    arguments: Mapping[str, ArgumentValue] | None = None,
    on_change: OnChange = OnChange.RESTART,
) -> Serving:
    """Build the settings that an instance is served with."""
    return Serving(
        context_tokens=context_tokens,
        parallel=parallel,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        placement=placement,
        preload=preload,
        arguments=tuple(sorted((arguments or {}).items())),
        on_change=on_change,
    )


def an_instance(
    model: Model | None = None,
    profile: Profile | None = None,
    *,
    port: int = 8601,
    serving: Serving | None = None,
    gpu_percentages: tuple[float, ...] | None = None,
    layers: tuple[int, ...] | None = None,
) -> Instance:
    """Build an instance of a model under a profile; it gets the model's context unless said otherwise."""
    model = model or a_model()
    profile = profile or a_profile()
    return Instance(
        id=InstanceId(model=model.name, profile=profile.name),
        model=model,
        profile=profile,
        port=port,
        serving=serving or a_serving(context_tokens=model.context_tokens),
        gpu_percentages=gpu_percentages,
        layers=layers,
    )


def a_persona(
    id: str = "pirate",
    *,
    model_id: str = "small",
    aliases: tuple[str, ...] = (),
    display_name: str = "Pirate",
    system_prompt: str = "You are a friendly pirate.",
    sampling: tuple[tuple[str, float | int], ...] = (("temperature", 0.7),),
    stop: tuple[str, ...] = (),
    response_format: str | None = None,
    tools: str | None = None,
) -> Persona:
    """Build a persona."""
    return Persona(
        id=id,
        model_id=model_id,
        aliases=aliases,
        display_name=display_name,
        system_prompt=system_prompt,
        sampling=sampling,
        stop=stop,
        response_format=response_format,
        tools=tools,
    )


def a_purpose(name: str = "fast", *candidates: str, otherwise: str | None = None, is_default: bool = False) -> Purpose:
    """Build a purpose; its candidate is the model `small` if none is named."""
    return Purpose(name, candidates or ("small",), otherwise, is_default=is_default, priority=Priority.INTERACTIVE)


def a_bus(*, xsub_port: int = 5556, xpub_port: int = 5557, is_managed: bool = True) -> BusAddresses:
    """Build the two sides of a ChemBus proxy on loopback."""
    return BusAddresses(xsub=f"tcp://127.0.0.1:{xsub_port}", xpub=f"tcp://127.0.0.1:{xpub_port}", is_managed=is_managed)


def a_sandbox(
    *,
    read_only_paths: tuple[str, ...] = (),
    memory_headroom_bytes: int = GIB,
    cpu_weight: int | None = None,
    io_weight: int | None = None,
    exposure_limit: float = 1.5,
    relaxed: tuple[Relaxation, ...] = (),
) -> Sandbox:
    """Build what the units may do; by default what is standard."""
    return Sandbox(
        read_only_paths=read_only_paths,
        memory_headroom_bytes=memory_headroom_bytes,
        cpu_weight=cpu_weight,
        io_weight=io_weight,
        exposure_limit=exposure_limit,
        relaxed=relaxed,
    )


def _distinct(names: Iterable[Profile]) -> tuple[Profile, ...]:
    return tuple({profile.name: profile for profile in names}.values())


def a_catalog(
    *instances: Instance,
    profiles: tuple[Profile, ...] | None = None,
    personas: tuple[Persona, ...] = (),
    purposes: tuple[Purpose, ...] | None = None,
    host: str = "astraea",
    llama_server: str = "/opt/llama.cpp/llama-server",
    bus: BusAddresses | None = None,
    bridge: BridgeAddresses | None = None,
    sandbox: Sandbox | None = None,
    log_level: str = "info",
    systemd_version: int = OLDEST_SYSTEMD,
) -> Catalog:
    """Build a catalog around these instances; its models and profiles are theirs unless said otherwise."""
    instances = instances or (an_instance(),)
    models = tuple({instance.model.id: instance.model for instance in instances}.values())
    return Catalog(
        host=host,
        llama_server=llama_server,
        profiles=profiles or _distinct(instance.profile for instance in instances),
        models=models,
        instances=instances,
        personas=personas,
        purposes=(a_purpose("fast", models[0].id, is_default=True),) if purposes is None else purposes,
        bus=bus or a_bus(),
        bridge=bridge or BridgeAddresses(host="127.0.0.1", ports=(11434,)),
        sandbox=sandbox or a_sandbox(),
        log_level=log_level,
        systemd_version=systemd_version,
    )


def an_upstream(
    instance: str = "small-cpu_only",
    *,
    host: str = "127.0.0.1",
    port: int = 8601,
    preload: bool = True,
    context_tokens: int = 2048,
    parallel: int = 1,
) -> Upstream:
    """Build a llama-server behind the router; the profile is what follows the last hyphen."""
    profile = instance.rpartition("-")[2]
    unit = f"llama@{instance}.service"
    return Upstream(
        instance=instance,
        profile=profile,
        unit=unit,
        host=host,
        port=port,
        preload=preload,
        context_tokens=context_tokens,
        parallel=parallel,
    )


def a_target(name: str = "small-cpu_only", *, port: int = 8601, **more: Any) -> Target:
    """Build a place where a request may go: an instance of this machine unless said otherwise."""
    return Target(name, UpstreamKind.LLAMA_CPP, "127.0.0.1", port, **more)


def a_send(id: str = "req_1", *, target: Target | None = None, **more: Any) -> Send:
    """Build the order to ask a target."""
    standard: dict[str, Any] = {
        "model": a_routed_model(),
        "persona": None,
        "attempt": 1,
        "reason": "It is the only one.",
        "allocation_id": "alloc_1",
        "first_byte_s": 30.0,
        "stall_s": 30.0,
    }
    return Send(id, target or a_target(), **{**standard, **more})


def a_routed_model(
    id: str = "small",
    *upstreams: Upstream,
    name: str | None = None,
    kind: ModelKind = ModelKind.CHAT,
    aliases: tuple[str, ...] = (),
    purpose_tags: tuple[str, ...] = ("fast",),
    languages: tuple[str, ...] = (),
    context_tokens: int = 2048,
    cost_tier: CostTier = CostTier.LOW,
) -> RoutedModel:
    """Build a model of the routing table; it has one upstream under cpu_only if none are given."""
    name = name or id
    return RoutedModel(
        id=id,
        name=name,
        display_name=id.replace("-", " ").title(),
        kind=kind,
        aliases=aliases,
        purpose_tags=purpose_tags,
        languages=languages,
        context_tokens=context_tokens,
        cost_tier=cost_tier,
        version_id="1",
        size_bytes=100_000_000,
        sha256=A_SHA256,
        architecture="qwen2",
        upstreams=upstreams or (an_upstream(f"{name}-cpu_only", context_tokens=context_tokens),),
    )


def a_routed_persona(
    id: str = "pirate",
    *,
    model_id: str = "small",
    aliases: tuple[str, ...] = (),
    display_name: str = "Pirate",
    system_prompt: str = "You are a friendly pirate.",
    sampling: Mapping[str, float | int] | None = None,
    stop: tuple[str, ...] = (),
    response_format: Mapping[str, Any] | None = None,
    tools: tuple[dict[str, Any], ...] = (),
) -> RoutedPersona:
    """Build a persona of the routing table."""
    return RoutedPersona(
        id=id,
        model_id=model_id,
        aliases=aliases,
        display_name=display_name,
        system_prompt=system_prompt,
        sampling=dict(sampling or {}),
        stop=stop,
        response_format=dict(response_format) if response_format else None,
        tools=tools,
    )


def a_routing_table(
    *models: RoutedModel,
    profiles: tuple[str, ...] | None = None,
    profile_file: str = "/run/kloros/gpu_profile",
    personas: tuple[RoutedPersona, ...] = (),
    purposes: tuple[RoutedPurpose, ...] | None = None,
    bus: RoutedBus | None = None,
    bridge: RoutedBridge | None = None,
) -> RoutingTable:
    """Build a routing table; its profiles are those of the upstreams unless said otherwise."""
    models = models or (a_routed_model(),)
    served = dict.fromkeys(upstream.profile for model in models for upstream in model.upstreams)
    default = RoutedPurpose(name="fast", candidates=(models[0].id,), otherwise=None, is_default=True)
    return RoutingTable(
        version=2,
        profiles=tuple(RoutedProfile(name=name, cards=()) for name in profiles or served),
        profile_file=profile_file,
        models=models,
        personas=personas,
        purposes=(default,) if purposes is None else purposes,
        bus=bus or RoutedBus(xsub="tcp://127.0.0.1:5556", xpub="tcp://127.0.0.1:5557"),
        bridge=bridge or RoutedBridge(host="127.0.0.1", ports=(11434,)),
    )


def a_lock_for(config: Config, *, header: GgufHeader | None = None) -> Lock:
    """Build the lock that fits a config: every version, and its projector, pinned from the source that it names."""
    header = header or a_7b_header()
    seeing = a_projector_header()
    return a_lock(
        *(
            some_weights(one.key, source=one.source, header=seeing if one.is_projector else header)
            for one in lockables(config)
        )
    )
