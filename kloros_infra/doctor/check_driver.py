"""Checks of NVIDIA's driver against the cards that it is to drive."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.driver_support import (
    HANGING_BRANCHES,
    first_branch,
    last_branch,
    needs_closed,
    needs_open,
    shown,
)
from kloros_infra.doctor.facts import Cards, Facts, NeededCard, Unseen

NO_CARDS = "not needed: no profile has a card of this machine"
NOTHING_KNOWN = "not looked at: nothing says which cards are needed"
NO_DRIVER = "not looked at: there is no driver"

DRIVER_MISSING = Kind(
    "KI931",
    Status.FAILURE,
    "Without NVIDIA's kernel driver no model can use a card.",
    "Install the driver of branch {branch} with {flavour} kernel modules from your distribution, then reboot; if it is "
    "installed, see with `journalctl -k | grep -i nvidia` why it is not loaded.",
)
DRIVER_TOO_OLD = Kind(
    "KI932",
    Status.FAILURE,
    "A driver older than a card does not know it: the card is listed on the bus, and CUDA does not see it.",
    "Update the driver to branch {branch} or later, then reboot.",
)
DRIVER_TOO_NEW = Kind(
    "KI933",
    Status.FAILURE,
    "NVIDIA ends the support of old cards with a branch of the driver: later ones leave the card alone.",
    "Install the driver of branch {branch} (distributions call it legacy), and keep the package from being updated.",
)
WRONG_FLAVOUR = Kind(
    "KI934",
    Status.FAILURE,
    "NVIDIA's open kernel modules drive cards from Turing on, the proprietary ones those before Blackwell. A kernel "
    "loads one kind of the two.",
    "Install the {flavour} kernel modules of the same branch, then reboot.",
)
UNBIND_HANGS = Kind(
    "KI935",
    Status.WARNING,
    "With these modules taking a card from the driver, as for a virtual machine, may never end if anybody still uses "
    "it, and then only a reboot helps (NVIDIA/open-gpu-kernel-modules, issue 1374).",
    "Give cards up with `kloros-infra gpu release CARD --wait 20s` before they are unbound, or stay on branch 580.",
)
NO_COMMON_DRIVER = Kind(
    "KI936",
    Status.FAILURE,
    "Cards before Turing need the proprietary kernel modules and those from Blackwell on the open ones, and a kernel "
    "loads one kind of the two.",
    "Put one kind of cards into another machine that lends them (hosts.<name>.rpc), or give them to a virtual machine "
    "that does.",
)


def without_cards(facts: Facts) -> Finding:
    """Say why nothing is asked of cards."""
    return fine(NO_CARDS if facts.wanted.source else NOTHING_KNOWN)


def check_driver(facts: Facts) -> Iterator[Finding]:
    """Hold the driver's branch against the cards."""
    driver, cards = facts.driver, facts.wanted.cards
    if not cards:
        yield without_cards(facts)
    elif isinstance(driver, Unseen):
        yield not_seen(driver)
    elif driver is None:
        yield _missing(facts)
    else:
        problems = list(_branch_problems(driver.version, driver.branch, cards))
        yield from problems or [fine(f"{driver.version}, which supports {_names(cards)}")]


def _missing(facts: Facts) -> Finding:
    """Say that there is no driver, unless there is nothing for it to drive."""
    seen, cards = facts.cards, facts.wanted.cards
    if isinstance(seen, Cards) and seen.are_all_lent:
        return fine("not loaded: every card is lent to a virtual machine now")
    unusable = f" ({'; '.join(seen.unusable)})" if isinstance(seen, Cards) and seen.unusable else ""
    detail = f"NVIDIA's driver is not loaded, and {_names(cards)} need{'s' if len(cards) == 1 else ''} it{unusable}"
    return found(DRIVER_MISSING, detail, branch=_branch_for(cards), flavour=_flavour_for(cards))


def _branch_problems(version: str, branch: int, cards: tuple[NeededCard, ...]) -> Iterator[Finding]:
    for card in cards:
        if card.capability is None:
            continue
        first, last = first_branch(card.capability), last_branch(card.capability)
        about = f"driver {version}, and {card.name} (compute capability {shown(card.capability)})"
        if first is not None and branch < first:
            yield found(DRIVER_TOO_OLD, f"{about} needs {first} or later", branch=str(first))
        if last is not None and branch > last:
            yield found(DRIVER_TOO_NEW, f"{about} is supported up to {last}", branch=str(last))


def check_kernel_modules(facts: Facts) -> Iterator[Finding]:
    """Hold the kind of kernel modules against the cards."""
    driver, cards = facts.driver, facts.wanted.cards
    opened = [card for card in cards if card.capability is not None and needs_open(card.capability)]
    closed = [card for card in cards if card.capability is not None and needs_closed(card.capability)]
    if not cards:
        yield without_cards(facts)
    elif opened and closed:
        detail = f"{_names(tuple(opened))} and {_names(tuple(closed))} are in one machine, and no driver drives both"
        yield found(NO_COMMON_DRIVER, detail)
    elif isinstance(driver, Unseen):
        yield not_seen(driver)
    elif driver is None:
        yield fine(NO_DRIVER)
    elif driver.is_open is None:
        yield not_seen(Unseen("the driver does not say which kind it is", "Look at `modinfo nvidia | grep license`."))
    else:
        yield from _flavour(tuple(closed if driver.is_open else opened), driver.branch, is_open=driver.is_open)


def _flavour(undriven: tuple[NeededCard, ...], branch: int, *, is_open: bool) -> Iterator[Finding]:
    kind, other = ("open", "proprietary") if is_open else ("proprietary", "open")
    if undriven:
        yield found(
            WRONG_FLAVOUR, f"the {kind} modules are loaded, which do not drive {_names(undriven)}", flavour=other
        )
    if is_open and branch in HANGING_BRANCHES:
        yield found(UNBIND_HANGS, f"the open modules of branch {branch} may hang when a card is unbound")
    elif not undriven:
        yield fine(f"{kind}, as the cards need them")


def _names(cards: tuple[NeededCard, ...]) -> str:
    return ", ".join(card.name for card in cards)


def _branch_for(cards: tuple[NeededCard, ...]) -> str:
    """Say which branch drives all the cards; for those of which nothing is known any that is maintained."""
    lasts = [last for card in cards if card.capability and (last := last_branch(card.capability)) is not None]
    return str(min(lasts)) if lasts else "580 or later"


def _flavour_for(cards: tuple[NeededCard, ...]) -> str:
    is_old = any(card.capability is not None and needs_closed(card.capability) for card in cards)
    return "proprietary" if is_old else "open"
