"""Find the instance that an operator means: by its own name, by its model, or by model and profile."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.ir.routing import RoutedModel, RoutingTable, Upstream
from kloros_infra.router.meaning import is_same_name


def named_instance(
    table: RoutingTable, active: str, *, profile: str | None, model: str | None
) -> Upstream | Diagnostic:
    """Find an instance; `profile` is an instance's name, as in the design document, or that of a profile.

    A model alone means its instance under the `active` profile, and so does one that stands where an instance should.
    """
    if profile is not None:
        shared = [one for one in _upstreams(table.models) if one.instance == profile]
        if shared:
            # Of an instance that several profiles share, it is the one of the active profile, if there is one.
            instance = next((one for one in shared if one.profile == active), shared[0])
            return _serving(table, instance, model)
        if model is None:
            return _of_model(table, active, profile, _instances(table))
    if model is None:
        return _unknown("an instance without a name", _instances(table))
    if profile is not None and profile not in table.profile_names:
        return _unknown(f"no instance or profile '{profile}'", [*_instances(table), *table.profile_names], profile)
    return _of_model(table, profile or active, model, ())


def _of_model(table: RoutingTable, profile: str, name: str, others: Iterable[str]) -> Upstream | Diagnostic:
    model = next((one for one in table.models if _is_called(one, name)), None)
    if model is None:
        names = (known for one in table.models for known in (one.id, one.name, *one.aliases))
        kind = "instance or model" if others else "model"
        return _unknown(f"no {kind} '{name}'", [*others, *names], name)
    found = model.upstream(profile)
    if found is None:
        placed = [upstream.instance for upstream in model.upstreams]
        return _unknown(f"no instance of '{model.id}' under profile {profile}", placed)
    return found


def _serving(table: RoutingTable, instance: Upstream, model: str | None) -> Upstream | Diagnostic:
    owner = next(one for one in table.models if instance in one.upstreams)
    if model is None or _is_called(owner, model):
        return instance
    return _unknown(f"no instance {instance.instance} of '{model}', as it serves '{owner.id}'", ())


def _is_called(model: RoutedModel, name: str) -> bool:
    return any(is_same_name(name, known) for known in (model.id, model.name, *model.aliases))


def _upstreams(models: Iterable[RoutedModel]) -> Iterable[Upstream]:
    return (upstream for model in models for upstream in model.upstreams)


def _instances(table: RoutingTable) -> tuple[str, ...]:
    return tuple(upstream.instance for upstream in _upstreams(table.models))


def _unknown(what: str, known: Iterable[str], name: str = "") -> Diagnostic:
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"There is: {', '.join(names)}." if names else "Name another one."
    return Diagnostic("KI843", "Unknown instance", f"There is {what}.", hint)


def not_active(instance: Upstream, active: str) -> Diagnostic:
    """Refuse to start what the active profile does not serve: its cards are given to others."""
    return Diagnostic(
        code="KI844",
        summary="Instance of another profile",
        detail=f"{instance.instance} belongs to profile {instance.profile}, and {active} is active.",
        hint="Name one of the active profile, or go to the other with `kloros-infra apply --profile`.",
        address=instance.instance,
    )
