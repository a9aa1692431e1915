"""What is asked of the installation: what differs from models.yaml, and how its units are."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.adapters.apply_lock import is_locked
from kloros_infra.adapters.confirmation import Confirmation
from kloros_infra.adapters.local_time import local_time
from kloros_infra.adapters.lockout_files import lockout_files
from kloros_infra.adapters.run_files import RunFiles
from kloros_infra.agent.facts import nameable_cards
from kloros_infra.cli.doctor.project_view import View, table_of
from kloros_infra.cli.planning import look
from kloros_infra.cli.wiring import generations_of, journal_of, noted_profile, observe_target, observing_manager
from kloros_infra.doctor.check_installation import ONESHOTS
from kloros_infra.doctor.facts import Choice, Generation, Seen, Units, Unseen
from kloros_infra.ir.cards_report import understood
from kloros_infra.ir.plan import Plan
from kloros_infra.planner.diff import plan
from kloros_infra.topology.lockouts import read_sources


def see_generation(view: View) -> Seen[Generation]:
    """Plan, and say what differs; change nothing."""
    where = view.where
    if is_locked(where.root):
        return Unseen("an apply is at work", "Wait until it has ended.")
    unfinished, waiting = journal_of(where).unfinished(), Confirmation(where.root).read()
    history = generations_of(where).history()
    found = Generation(
        history.current,
        is_good=history.current == history.last_good,
        interrupted=unfinished.step if unfinished else "",
        is_unconfirmed=waiting is not None,
    )
    if history.current is None or view.damage:
        return replace(found, damage=view.damage)
    return _compared(view, found)


def _compared(view: View, found: Generation) -> Seen[Generation]:
    """Hold what is installed against models.yaml, and without one against what was written."""
    if isinstance(view.installed, Unseen):
        return view.installed
    if view.prepared is not None:
        return replace(found, differences=_differences(look(view.prepared).made))
    if view.installed is None:
        return found
    made, _ = plan(view.installed, observe_target(view.installed, view.where))
    return replace(found, drift=_differences(made))


def _differences(made: Plan) -> tuple[str, ...]:
    """Name what differs, with what somebody did that matters."""
    changed = (f"{change.address} ({change.reason})" for change in made.changes if not change.is_harmless)
    return (*changed, *(f"{one.address}: {one.what}" for one in made.drift if one.matters))


def see_units(view: View) -> Seen[Units]:
    """Ask the manager for the units of the installed generation."""
    installed, where = view.installed, view.where
    if installed is None or isinstance(installed, Unseen):
        return installed or Units()
    manager = observing_manager(where)
    if manager is None:
        return Unseen(f"no {where.manager} answers for {where.root}")
    oneshots = (unit for unit in ONESHOTS if where.layout.unit_path(unit) in installed.tree)
    states = manager.states({*(unit.unit for unit in installed.units), *oneshots})
    rules = where.layout.udev_rules
    missing = () if rules not in installed.tree or (where.root / rules).exists() else (rules,)
    return Units(states, missing)


def see_choice(view: View) -> Seen[Choice]:
    """Read which profile is active, and why; and whether lockout files can be understood."""
    if isinstance(view.installed, Unseen):
        return view.installed
    table = table_of(view.installed) or view.table
    if table is None:
        return Choice()
    root, layout = view.where.root, view.where.layout
    cards = nameable_cards(table)
    sources = read_sources(lockout_files(root, [card.name for card in cards]), cards, local_time)
    return Choice(
        profile=noted_profile(view.where),
        report=understood(RunFiles(root).read(layout.cards_file)),
        problems=tuple(problem for source in sources for problem in source.problems),
        known=table.profile_names,
    )
