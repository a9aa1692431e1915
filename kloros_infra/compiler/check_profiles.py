"""Checks of profiles against each other, and of what a model gives to their cards (KI214, KI241 to KI245, KI267)."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.compiler.parse import Parsed
from kloros_infra.compiler.serving import serving_of
from kloros_infra.compiler.source import Address
from kloros_infra.compiler.suggest import listed, suggest
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.ir.catalog import PlacementMode
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_machine import ProfileSpec
from kloros_infra.ir.config_models import InstanceSpec

ROUNDING_PERCENT = 0.5


def check_order(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find profiles that are never active, and states of the cards in which none is."""
    config = parsed.config
    earlier: list[tuple[str, ProfileSpec]] = []
    for name, profile in config.profiles.items():
        better = next((one for one, spec in earlier if _is_taken_whenever(spec, profile)), None)
        if better is None:
            earlier.append((name, profile))
        else:
            yield parsed.locate(_never_active(name, better, config), ("profiles", name), at_key=True)
    if config.gpus and all(profile.gpus for profile in config.profiles.values()):
        yield parsed.locate(_none_without_cards(), ("profiles",))
    yield from _all_locked(parsed)


def _is_taken_whenever(first: ProfileSpec, second: ProfileSpec) -> bool:
    """Say whether whatever lets `second` be active lets `first` be active too, which comes before it."""
    is_stricter = (
        first.conditions.take_below < second.conditions.take_below
        or first.conditions.leave_above < second.conditions.leave_above
    )
    return frozenset(first.gpus).issubset(second.gpus) and not (first.gpus and is_stricter)


def _all_locked(parsed: Parsed) -> Iterator[Diagnostic]:
    config = parsed.config
    locked = [name for name, gpu in config.gpus.items() if gpu.lockout]
    if locked and all(set(profile.gpus) & set(locked) for profile in config.profiles.values()):
        yield parsed.locate(_every_profile_locked(locked), ("gpus", locked[0], "lockout"))


def check_shares(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find shares and layers that do not fit the cards of their profile, or that nothing reads."""
    config = parsed.config
    for index, model in enumerate(config.models):
        for name, instance in model.profiles.items():
            profile = config.profiles.get(name)
            if profile is None or instance is None:
                continue
            if instance.gpu_percentages is None and instance.layers is None:
                continue
            address: Address = ("models", index, "profiles", name)
            mode = serving_of(instance, model, config.defaults).placement
            for problem, key in _share_problems(name, profile, instance, mode):
                yield parsed.locate(problem, (*address, *key))


def check_manual(parsed: Parsed) -> Iterator[Diagnostic]:
    """Find models that shall be placed by hand on cards and give none of them anything."""
    config = parsed.config
    for index, model in enumerate(config.models):
        for name, instance in model.profiles.items():
            profile = config.profiles.get(name)
            if profile is None or instance is None or instance.layers is None or any(instance.layers.values()):
                continue
            if profile.gpus and serving_of(instance, model, config.defaults).placement is PlacementMode.MANUAL:
                address = ("models", index, "profiles", name, "layers")
                yield parsed.locate(_nothing_on_cards(model.id, name), address, at_key=True)


def _share_problems(
    name: str, profile: ProfileSpec, instance: InstanceSpec, mode: PlacementMode
) -> Iterator[tuple[Diagnostic, tuple[str, ...]]]:
    foreign = [card for card in instance.layers or {} if card not in profile.gpus]
    for card in foreign:
        yield _not_in_profile(card, name, profile), ("layers", card)
    figures = instance.gpu_percentages
    wrong = None if figures is None else _wrong_figures(name, profile, figures)
    if wrong is not None:
        yield wrong, ("gpu_percentages",)
    if not foreign and wrong is None:
        yield from _unread(instance, mode)


def _unread(instance: InstanceSpec, mode: PlacementMode) -> Iterator[tuple[Diagnostic, tuple[str, ...]]]:
    written = [key for key in ("layers", "gpu_percentages") if getattr(instance, key) is not None]
    if mode is not PlacementMode.MANUAL:
        reason, hint = f"`placement: {mode}` chooses by itself", "or write `placement: manual`."
        # The overrider fills cards as far as their shares allow.
        is_read = {"gpu_percentages"} if mode is PlacementMode.OVERRIDER else set()
        yield from ((_not_read(key, reason, hint), (key,)) for key in written if key not in is_read)
    elif len(written) > 1:
        reason, hint = "`layers` says more exactly what goes where", "or take `layers` out."
        yield _not_read("gpu_percentages", reason, hint), ("gpu_percentages",)


def _wrong_figures(name: str, profile: ProfileSpec, percentages: tuple[float, ...]) -> Diagnostic | None:
    expected, total = len(profile.gpus), sum(percentages)
    if expected == 0:
        return _wrong_shares(f"The profile {name} has no GPUs to share a model among.", "Leave gpu_percentages out.")
    if len(percentages) != expected:
        detail = f"GPUs of the profile {name}: {expected}; figures here: {len(percentages)}."
        return _wrong_shares(detail, f"Give one figure for each of: {', '.join(profile.gpus)}.")
    if abs(total - 100) > ROUNDING_PERCENT:
        return _wrong_shares(f"The figures add up to {total:g}.", "Make them add up to 100.")
    return None


def _wrong_shares(detail: str, hint: str) -> Diagnostic:
    return Diagnostic("KI214", "gpu_percentages do not fit the profile", detail, hint)


def _not_in_profile(card: str, name: str, profile: ProfileSpec) -> Diagnostic:
    return Diagnostic(
        code="KI241",
        summary="Layers for a card outside the profile",
        detail=f"{card} is none of the profile {name}'s cards.",
        hint=suggest(card, profile.gpus) if profile.gpus else "Leave `layers` out: the profile has no cards.",
    )


def _nothing_on_cards(model: str, profile: str) -> Diagnostic:
    return Diagnostic(
        code="KI267",
        summary="Manual placement without cards",
        detail=f"`layers` gives none of {model} to a card of {profile}: all of it runs on the CPU.",
        hint="Write the number of layers for each card, or take `layers` and `placement: manual` out.",
        severity=Severity.WARNING,
    )


def _not_read(key: str, reason: str, remedy: str) -> Diagnostic:
    return Diagnostic(
        code="KI242",
        summary="Shares that nothing reads",
        detail=f"`{key}` has no effect here: {reason}.",
        hint=f"Take `{key}` out, {remedy}",
        severity=Severity.WARNING,
    )


def _never_active(name: str, better: str, config: Config) -> Diagnostic:
    first, second = config.profiles[better].gpus, config.profiles[name].gpus
    is_same = set(first) == set(second)
    needs = "the same cards" if is_same else "fewer of the same cards" if first else "no cards"
    return Diagnostic(
        code="KI243",
        summary="Profile that is never active",
        detail=f"The first profile whose cards are all there is active; {better} comes before {name} and needs"
        f" {needs}.",
        hint="Take one of them out."
        if is_same
        else f"Put {name} before {better}, or take it out; profiles stand best first.",
        severity=Severity.WARNING,
    )


def _none_without_cards() -> Diagnostic:
    return Diagnostic(
        code="KI244",
        summary="No profile for when every card is away",
        detail="Every profile needs a card: with a failed driver, or with all cards lent to games or virtual machines,"
        " none could be active and nothing would answer.",
        hint="Add `cpu_only: {gpus: []}` as the last profile, and a small model to it.",
        severity=Severity.WARNING,
    )


def _every_profile_locked(locked: list[str]) -> Diagnostic:
    return Diagnostic(
        code="KI245",
        summary="Every profile needs a locked-out card",
        detail=f"No profile could be active: each needs a card that is locked out ({listed(locked)}).",
        hint="Add a profile without them, such as `cpu_only: {gpus: []}`, or lift a lockout.",
        severity=Severity.WARNING,
    )
