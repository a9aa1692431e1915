"""The cards of an installation as commands name them, how they stand, and who has locked them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from kloros_infra.adapters.local_time import local_time
from kloros_infra.adapters.lockout_files import lockout_files
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.agent.facts import BY_MODELS_YAML, cards_of, local_cards, nameable_cards
from kloros_infra.agent.problems import nothing_installed
from kloros_infra.cli.gpu_wiring import GpuPlaces
from kloros_infra.cli.wiring import Target, observing_manager
from kloros_infra.compiler.suggest import closest, suggest
from kloros_infra.compiler.suggest import listed as in_words
from kloros_infra.daemon.files import read_table
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.errors import KlorosError, ProblemsError
from kloros_infra.ir.card_facts import DeclaredCard, Lockout
from kloros_infra.ir.cards_report import CardsReport, understood
from kloros_infra.ir.names import AGENT_UNIT, RECONCILE_PATH
from kloros_infra.ir.routing import RoutedCard, RoutingTable
from kloros_infra.topology.card_tokens import meant_by
from kloros_infra.topology.lockouts import read_sources


class NothingInstalledError(ProblemsError):
    """There is no routing table below the root."""


class UnknownNameError(ProblemsError):
    """A command was given the name of a card or profile that is not there: a slip of the command line."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class GpuSite:
    """An installation, its routing table, and the cards of this host in the order in which its profiles list them.

    `listed` has those of other hosts as well, as `gpu list` has: by their places there people name cards.
    """

    places: GpuPlaces
    table: RoutingTable
    cards: tuple[DeclaredCard, ...]
    listed: tuple[DeclaredCard, ...]

    @property
    def where(self) -> Target:
        """Name the installation."""
        return self.places.where

    @property
    def routed(self) -> Mapping[str, RoutedCard]:
        """Give what the table says of each card."""
        return {card.name: card for profile in self.table.profiles for card in profile.cards}

    def card(self, token: str) -> DeclaredCard:
        """Find the card that is meant by a name, UUID, PCI address or place; raise UnknownNameError (KI915, KI920)."""
        found = meant_by(token, self.listed)
        if found is None:
            raise UnknownNameError([_unknown_card(token, self.cards)])
        if found.is_lent:
            raise UnknownNameError([_lent(found.name)])
        return found

    def profile(self, name: str) -> str:
        """Check the name of a profile; raise UnknownNameError (KI916)."""
        if name not in self.table.profile_names:
            raise UnknownNameError([_unknown_profile(name, self.table.profile_names)])
        return name

    def units_on(self, card: str) -> tuple[str, ...]:
        """Name the units of all instances that have a share of a card."""
        upstreams = (upstream for model in self.table.models for upstream in model.upstreams)
        return tuple(sorted({one.unit for one in upstreams if any(share.card == card for share in one.shares)}))

    @property
    def units(self) -> tuple[str, ...]:
        """Name the units of all instances."""
        return tuple(sorted({upstream.unit for model in self.table.models for upstream in model.upstreams}))


def read_site(places: GpuPlaces) -> GpuSite:
    """Read what is installed; raise ProblemsError for a table that cannot be read, NothingInstalledError without."""
    file = places.where.root / places.where.layout.routing
    if not file.exists():
        raise NothingInstalledError([replace(nothing_installed(str(file)), severity=Severity.ERROR)])
    table = read_table(WatchedFile(file))
    if isinstance(table, Diagnostic):
        raise ProblemsError([table])
    shown = {card.name for card in cards_of(table)}
    listed = tuple(card for card in nameable_cards(table) if card.name in shown)
    return GpuSite(places, table, local_cards(table), listed)


def read_report(where: Target) -> CardsReport | None:
    """Read how the cards stand; None where nobody has noted it yet, or what is noted cannot be understood."""
    try:
        return understood((where.root / where.layout.cards_file).read_bytes())
    except OSError:
        return None


def is_followed(where: Target) -> bool | None:
    """Say whether somebody waits for the flag; None where that cannot be asked."""
    try:
        manager = observing_manager(where)
        if manager is None:
            return None
        states = manager.states((AGENT_UNIT, RECONCILE_PATH))
    except KlorosError:
        return None
    return any(state.is_active for state in states.values())


def lockouts_of(site: GpuSite, card: str, now: datetime) -> Mapping[str, Lockout]:
    """Give every lockout of a card that has not ended, by the file that says so, relative to the root."""
    cards = nameable_cards(site.table)
    names = [card.name for card in cards]
    found = {
        source.name.lstrip("/"): lockout
        for source in read_sources(lockout_files(site.where.root, names), cards, local_time)
        for lockout in source.lockouts or ()
        if lockout.card == card and (lockout.until is None or lockout.until > now)
    }
    if (routed := site.routed.get(card)) is not None and routed.is_locked:
        found[BY_MODELS_YAML] = Lockout(card, "", None)
    return found


def _unknown_card(token: str, cards: tuple[DeclaredCard, ...]) -> Diagnostic:
    names = [card.name for card in cards]
    close = closest(token, names)
    meant = f"Did you mean '{close}'? " if close else ""
    return Diagnostic(
        code="KI915",
        summary="Unknown GPU",
        detail=f"{token!r} is none of the GPUs that profiles use here: {in_words(names) or 'there are none'}.",
        hint=f"{meant}Name one as models.yaml does, by UUID, by PCI address, or by its place in `gpu list`, from 0.",
    )


def _unknown_profile(name: str, names: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(
        code="KI916",
        summary="No such profile to pin",
        detail=f"There is no profile {name!r} here.",
        hint=suggest(name, names),
    )


def _lent(name: str) -> Diagnostic:
    return Diagnostic(
        code="KI920",
        summary="GPU of another host",
        detail=f"{name} is lent by another host: it cannot be locked out or given up here.",
        hint="Stop its RPC server on its own host: the profiles here that need it then give way.",
    )
