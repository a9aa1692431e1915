"""What keeps a plan from being carried out, as far as comparing can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kloros_infra.diagnostics import Diagnostic, Problems, Severity
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Observed
from kloros_infra.planner.desired import DerivedWeights, Desired
from kloros_infra.planner.file_changes import foreign_paths


def foreign_file(path: str) -> Diagnostic:
    """Report a file that is in the way and is not ours."""
    return Diagnostic(
        code="KI501",
        summary="Foreign file in the way",
        detail=f"/{path} exists, differs from what models.yaml asks for, and was not put there by an apply.",
        hint=f"Move it away, or have it taken over with `kloros-infra adopt /{path}`.",
        address=f"file.{path}",
    )


def foreign_current(layout: Layout) -> Diagnostic:
    """Report what stands where the link to the current generation belongs; whatever it is, somebody meant it."""
    return Diagnostic(
        code="KI595",
        summary="Something else in the place of the current generation",
        detail=f"/{layout.current} is a folder, a file or a link to elsewhere; it was not put there by an apply.",
        hint="Move it away; then `kloros-infra recover` goes to the last good generation, and apply to models.yaml.",
        address=f"file.{layout.current}",
    )


def unknown_installation() -> Diagnostic:
    """Refuse to destroy what nobody can name: it would be called done while units of ours run."""
    return Diagnostic(
        code="KI596",
        summary="Not known what is installed",
        detail="Generations are kept, but neither a record of what was installed nor a readable current one.",
        hint="Run `kloros-infra recover`, or `kloros-infra rollback N` to a generation that is whole; then destroy.",
    )


def apply_at_work() -> Diagnostic:
    """Warn that a plan was made in the middle of an apply."""
    return Diagnostic(
        code="KI562",
        summary="An apply is running",
        detail="Somebody is changing this machine now, so the plan shows it half way.",
        hint="Plan again when `kloros-infra status` says no more that an apply is at work.",
        severity=Severity.WARNING,
        address="apply",
    )


def unreadable(paths: Sequence[str]) -> Diagnostic:
    """Say that a plan does not know everything, as whoever asked for it may not."""
    shown = ", ".join(f"/{path}" for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return Diagnostic(
        code="KI563",
        summary="Not everything may be looked at",
        detail=f"{shown} may not be read by this user, so nothing is said of it, nor of what its owner runs.",
        hint="Plan as the user who applies, such as with sudo, to see all of it.",
        address=f"file.{paths[0]}",
    )


def former_table(generation: int, found: object, ours: int) -> Diagnostic:
    """Refuse to go back to what another release of kloros-infra made: the router of this one cannot serve by it."""
    return Diagnostic(
        code="KI566",
        summary="Generation of another release",
        detail=f"Generation {generation} has a routing table of version {found}; this release of kloros-infra serves "
        f"by version {ours} alone.",
        hint="Install the release that made it and roll back then, or go back to the commit of models.yaml that it was "
        "made from and apply.",
        address="routing",
    )


def table_of_another_release(found: object, wanted: object) -> Diagnostic:
    """Refuse a part of a routing table in a form that the rest of it does not have."""
    return Diagnostic(
        code="KI567",
        summary="A part cannot bring a new routing table",
        detail=f"The installed routing table is of version {found}, and this release of kloros-infra writes {wanted}: "
        "what was not chosen would have to be written anew as well.",
        hint="Apply once without --only.",
        address="routing",
    )


def no_manager() -> Diagnostic:
    """Refuse a machine on which nobody runs units."""
    return Diagnostic(
        code="KI599",
        summary="systemd does not run here",
        detail="Files can be compared, but nobody can say which units run, nor start any.",
        hint="Apply on the machine itself, or below a folder with --root DIR, where the embedded supervisor runs them.",
        address="systemd",
    )


def unpinned_weights(weights: DerivedWeights) -> Diagnostic:
    """Warn that a plan shows a model which apply will refuse."""
    return Diagnostic(
        code="KI502",
        summary="Weights are not pinned",
        detail=f"The lock holds only a derived header of {weights.key}: no size or checksum of a real file.",
        hint="Run `kloros-infra lock` where the file can be reached; until then this model can be planned only.",
        severity=Severity.WARNING,
        address=f"weights.{weights.key}",
    )


def refused_weights(weights: DerivedWeights) -> Diagnostic:
    """Refuse the instances of a model whose weights are not pinned."""
    return Diagnostic(
        code="KI503",
        summary="Weights cannot be placed",
        detail=f"{weights.key} is not pinned and cannot be verified; it is needed by {', '.join(weights.units)}.",
        hint="Run `kloros-infra lock` where the file can be reached, or take the model out of models.yaml.",
        address=f"weights.{weights.key}",
    )


def unnamed_cards(catalog: Catalog, host: str | None = None) -> Problems:
    """Refuse cards that units can name by index alone, where another card's coming or going shifts the index.

    They are this machine's, or those of another host.

    CUDA takes an index or a UUID, no PCI address (CUDA programming guide, CUDA_VISIBLE_DEVICES).
    """
    every = {card.name: card for profile in catalog.profiles for card in profile.cards}
    cards = {name: card for name, card in every.items() if host == (card.host if card.remote else None)}
    unnamed = sorted(name for name, card in cards.items() if card.uuid is None)
    return tuple(_unnamed_card(name) for name in unnamed) if len(cards) > 1 else ()


def _unnamed_card(name: str) -> Diagnostic:
    return Diagnostic(
        code="KI521",
        summary="GPU without a UUID",
        detail=f"Units name {name} by its index, and when one of the other cards is absent that index is another card.",
        hint=f"Add gpus.{name}.uuid; `nvidia-smi -L` prints it.",
        address=f"gpus.{name}",
    )


def problems(desired: Desired, observed: Observed) -> Problems:
    """List what a plan must say about its own limits: what is foreign stops it, unpinned weights do not."""
    return (
        *_in_the_way(desired, observed),
        *(replace(problem, severity=Severity.WARNING) for problem in _unseen(observed)),
        *(unpinned_weights(weights) for weights in desired.derived),
        *(replace(refusal, severity=Severity.WARNING) for refusal in desired.refusals),
    )


def _unseen(observed: Observed) -> Problems:
    """Say what could not be looked at: where files may not be read, their owner's service manager cannot be asked."""
    if observed.unreadable:
        return (unreadable(observed.unreadable),)
    return () if observed.has_manager else (no_manager(),)


def _in_the_way(desired: Desired, observed: Observed) -> Iterator[Diagnostic]:
    history = observed.history
    if history.is_current_foreign:
        yield foreign_current(desired.layout)
    if desired.is_destroyed and not observed.installed.digests and (history.current or history.last_good):
        yield unknown_installation()
    yield from (foreign_file(path) for path in foreign_paths(desired, observed))


def refusals(desired: Desired, observed: Observed) -> Problems:
    """List why apply must not even begin."""
    return (
        *_in_the_way(desired, observed),
        *_unseen(observed),
        *(refused_weights(weights) for weights in desired.derived),
        *desired.refusals,
    )
