"""Checks of models.yaml against the lock: KI301 to KI304 at each compile, KI326, KI327 and KI329 beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, header_path
from kloros_infra.compiler.parse import Parsed
from kloros_infra.diagnostics import Diagnostic, Problems, Severity, in_order
from kloros_infra.ir.config import Config
from kloros_infra.ir.config_models import ModelSpec, VersionSpec
from kloros_infra.ir.lock import Lock, LockedWeights, mmproj_key, weights_key

LOCK = "Run `kloros-infra lock`."

Address = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Lockable:
    """One entry that the lock shall have, and where models.yaml asks for it: `address` is of the source."""

    key: str
    source: tuple[str, ...]
    model: ModelSpec
    version: VersionSpec
    address: Address

    @property
    def is_projector(self) -> bool:
        return self.address[-1] == "mmproj_url"

    @property
    def name(self) -> str:
        """Name the place as messages of `lock` do."""
        return f"models.{self.model.id}.versions.{self.version.version_id}.{self.address[-1]}"


def lockables(config: Config) -> Iterator[Lockable]:
    """List everything that the lock has to pin: each version's weights, and its projector."""
    for index, model in enumerate(config.models):
        for place, version in enumerate(model.versions):
            address: Address = ("models", index, "versions", place)
            key = weights_key(model.id, version.version_id)
            yield Lockable(key, version.gguf_url, model, version, (*address, "gguf_url"))
            if version.mmproj_url is not None:
                key = mmproj_key(model.id, version.version_id)
                yield Lockable(key, (version.mmproj_url,), model, version, (*address, "mmproj_url"))


def check_lock(parsed: Parsed, lock: Lock) -> Iterator[Diagnostic]:
    """Find current versions that the lock does not pin as they are written."""
    for one in lockables(parsed.config):
        if one.version.version_id == one.model.version_in_use:
            yield from _check(one, parsed, lock)
            if not one.is_projector and one.key in lock.weights:
                yield from _check_context(one, parsed, lock.weights[one.key])


def check_cover(parsed: Parsed, lock: Lock, *, headers: Iterable[str], unsound: AbstractSet[str]) -> Problems:
    """Find whatever `lock` would change without asking anybody: entries of every version, and files beside it.

    `unsound` entries are in the file and not in `lock`; what is wrong with them is known already.
    """
    wanted = {one.key: one for one in lockables(parsed.config)}
    present = lock.weights.keys() | unsound
    found = [problem for key in wanted.keys() - unsound for problem in _check(wanted[key], parsed, lock)]
    found += [_superfluous(key) for key in present - wanted.keys()]
    found += [_left_over(name) for name in set(headers) - {header_path(key) for key in present}]
    return in_order(found)


def locate(parsed: Parsed, problems: Iterable[Diagnostic]) -> Problems:
    """Give what `lock` found the place of the source in models.yaml that it is about."""
    places = {one.name: one.address for one in lockables(parsed.config)}
    return in_order(
        parsed.locate(problem, places[problem.address]) if problem.address in places else problem
        for problem in problems
    )


def other_bytes(key: str, expected: str, found: str) -> Diagnostic:
    """Say that the weights are not those whose sha256 models.yaml gives."""
    return Diagnostic(
        code="KI329",
        summary="Weights have another sha256",
        detail=f"The sha256 of {key} is {found}; models.yaml says {expected}.",
        hint="Find out which of the two is right; if the file was replaced on purpose, correct `sha256`.",
    )


def _check(one: Lockable, parsed: Parsed, lock: Lock) -> Iterator[Diagnostic]:
    entry = lock.weights.get(one.key)
    problem = _entry_problem(one, entry)
    if problem is not None:
        yield parsed.locate(problem, one.address)
    expected = None if one.is_projector else one.version.sha256
    if entry is not None and None not in (entry.sha256, expected) and entry.sha256 != expected:
        yield parsed.locate(other_bytes(one.key, str(expected), str(entry.sha256)), (*one.address[:-1], "sha256"))


def _entry_problem(one: Lockable, entry: LockedWeights | None) -> Diagnostic | None:
    if entry is None:
        detail = f"The lock has no entry {one.key}: nothing says which bytes these weights are."
        return Diagnostic("KI301", "Weights not locked", detail, LOCK)
    if entry.source != one.source:
        detail = f"{one.key} is locked from {', '.join(entry.source)}; here stands {', '.join(one.source)}."
        return Diagnostic("KI302", "Lock out of date", detail, LOCK)
    if entry.is_derived:
        return Diagnostic(
            code="KI303",
            summary="Header derived",
            detail=f"The file of {one.key} could not be reached; its header follows from the published architecture.",
            hint="Run `kloros-infra lock` where the file can be reached; until then apply refuses this model.",
            severity=Severity.WARNING,
        )
    return None


def _check_context(one: Lockable, parsed: Parsed, entry: LockedWeights) -> Iterator[Diagnostic]:
    """Compare the context of the model, and of each profile that has its own, with that of the training."""
    trained = entry.header.context_length
    model: Address = one.address[:2]
    asked: list[tuple[int, Address]] = [(one.model.context_tokens, (*model, "context_tokens"))]
    for profile, spec in one.model.profiles.items():
        if spec is not None and spec.context_tokens is not None:
            asked.append((spec.context_tokens, (*model, "profiles", profile, "context_tokens")))
    for tokens, address in asked:
        if tokens > trained:
            yield parsed.locate(long_context(one.model.id, tokens, trained), address)


def long_context(model_id: str, tokens: int, trained: int) -> Diagnostic:
    """Say that a model gets more context than it has seen."""
    return Diagnostic(
        code="KI304",
        summary="Context beyond training",
        detail=f"{model_id} was trained for {trained} tokens and gets {tokens}.",
        hint=f"Lower context_tokens to {trained}; answers degrade beyond it.",
        severity=Severity.WARNING,
    )


def _superfluous(key: str) -> Diagnostic:
    return Diagnostic(
        code="KI326",
        summary="Lock entry without a version",
        detail=f"{LOCK_FILE} pins {key}, which models.yaml does not have.",
        hint=LOCK,
        address=f"weights.{key}",
    )


def _left_over(name: str) -> Diagnostic:
    return Diagnostic(
        code="KI327",
        summary="Header file of no entry",
        detail=f"{name} is beside the lock, and no entry is read from it.",
        hint=f"Run `kloros-infra lock`, which removes from {HEADERS_FOLDER} what no entry names.",
        address=name,
    )
