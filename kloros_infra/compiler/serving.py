"""How an instance is served: the nearest of profile, model, defaults and what is standard, setting by setting."""

from __future__ import annotations

from typing import TypeVar

from kloros_infra.ir.catalog import ArgumentValue, KvType, PlacementMode, Preference, Serving
from kloros_infra.ir.config_models import DefaultsSpec, InstanceSpec, ModelSpec, ServingSpec
from kloros_infra.ir.on_change import OnChange

Value = TypeVar("Value")

PARALLEL = 1
CACHE_TYPE = KvType.F16
PLACEMENT = PlacementMode.AUTO
PRELOAD = True
PROMPT_RATIO = 4.0
ON_CHANGE = OnChange.RESTART
PIN = False
IDLE_TIMEOUT_S = 300.0
DRAIN_S = 30.0
LEASE_S = 600.0
"""What is standard: the declarations in `ir.config_models` say the same in words."""


def serving_of(instance: InstanceSpec, model: ModelSpec, defaults: DefaultsSpec) -> Serving:
    """Settle the settings of a model under one profile."""
    places = (instance, model, defaults)
    preload = _nearest(PRELOAD, *(place.preload for place in places))
    is_pinned = _nearest(PIN, *(place.pin for place in places))
    # What shall be there from the start is not meant to go because nobody has asked for it yet.
    idle_timeout_s = None if preload else IDLE_TIMEOUT_S
    parallel = _nearest(PARALLEL, instance.parallel, model.parallel, defaults.parallel)
    cache_type_k = _nearest(CACHE_TYPE, instance.cache_type_k, model.cache_type_k, defaults.cache_type_k)
    cache_type_v = _nearest(CACHE_TYPE, instance.cache_type_v, model.cache_type_v, defaults.cache_type_v)
    return Serving(
        context_tokens=_nearest(model.context_tokens, instance.context_tokens),
        parallel=parallel,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        placement=_nearest(PLACEMENT, instance.placement, model.placement, defaults.placement),
        preload=preload,
        arguments=tuple(sorted(_joined(instance, model, defaults).items())),
        preference=Preference(
            prefill=_nearest(PROMPT_RATIO, instance.prompt_ratio, model.prompt_ratio, defaults.prompt_ratio)
        ),
        cache_type_choices=_nearest((), instance.cache_types, model.cache_types, defaults.cache_types),
        min_context_tokens=_nearest(
            None, instance.min_context_tokens, model.min_context_tokens, defaults.min_context_tokens
        ),
        on_change=_nearest(ON_CHANGE, instance.on_change, model.on_change, defaults.on_change),
        is_pinned=is_pinned,
        idle_timeout_s=None if is_pinned else _nearest(idle_timeout_s, *(place.idle_timeout for place in places)),
        drain_s=_nearest(DRAIN_S, instance.drain, model.drain, defaults.drain),
        lease_s=_nearest(LEASE_S, instance.lease, model.lease, defaults.lease),
    )


def _nearest(standard: Value, *settings: Value | None) -> Value:
    return next((setting for setting in settings if setting is not None), standard)


def _joined(*nearest_first: ServingSpec) -> dict[str, ArgumentValue]:
    joined: dict[str, ArgumentValue] = {}
    for spec in reversed(nearest_first):
        joined |= spec.arguments
    return joined
