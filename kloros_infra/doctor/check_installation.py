"""Checks of what is installed: against models.yaml, whether it runs, and whether it follows the cards."""

from __future__ import annotations

from collections.abc import Iterator

from kloros_infra.doctor.check import Finding, Kind, Status, fine, found, not_seen
from kloros_infra.doctor.facts import Choice, Facts, Generation, Units, Unseen
from kloros_infra.ir.names import AGENT_UNIT, DIRTY_PATH, DIRTY_TIMER, DIRTY_UNIT, RECONCILE_PATH, RECONCILE_UNIT
from kloros_infra.ir.observed import ActiveState, UnitState

NOTHING = "nothing is installed yet"
SHOWN = 3
TRIGGERS = (RECONCILE_PATH, DIRTY_PATH, DIRTY_TIMER)
ONESHOTS = (RECONCILE_UNIT, DIRTY_UNIT)
OF_THE_CARDS = (*TRIGGERS, *ONESHOTS, AGENT_UNIT)

PROJECT_WRONG = Kind(
    "KI967",
    Status.FAILURE,
    "What is wrong with it cannot be installed; what is installed goes on as it is.",
    "Run `kloros-infra validate`, which says where and how it is mended.",
)
NOT_INSTALLED = Kind(
    "KI968",
    Status.WARNING,
    "Nothing of models.yaml runs before it is applied.",
    "Run `kloros-infra plan`, and `kloros-infra apply`.",
)
NOT_AS_WRITTEN = Kind(
    "KI969",
    Status.WARNING,
    "What runs is not what models.yaml says.",
    "`kloros-infra plan` shows what differs, `kloros-infra apply` makes it so.",
)
UNFINISHED = Kind(
    "KI970",
    Status.FAILURE,
    "An apply that was killed may have left units of two generations running.",
    "Run `kloros-infra recover`.",
)
DAMAGED = Kind(
    "KI979",
    Status.FAILURE,
    "What is installed is checked whenever it is used; what was changed by hand is not used any more, and nothing can "
    "be started, stopped or undone by it.",
    "Run `kloros-infra apply`, which makes a new generation, or `kloros-infra rollback`.",
)
UNCONFIRMED = Kind(
    "KI977",
    Status.WARNING,
    "An apply with --confirm is undone unless somebody says that it is right.",
    "Run `kloros-infra confirm`, or let it be undone.",
)
UNIT_FAILED = Kind(
    "KI971",
    Status.FAILURE,
    "A service that has failed is not started again by itself.",
    "Run `kloros-infra logs {unit}` to see why, mend it, then `sudo systemctl reset-failed {unit}` and "
    "`sudo systemctl start {unit}`.",
)
DEAF = Kind(
    "KI972",
    Status.FAILURE,
    "A path or timer unit that has failed or is stopped raises no flag any more: changes of the cards go unseen.",
    "sudo systemctl reset-failed {unit} && sudo systemctl restart {unit}",
)
AGENT_AWAY = Kind(
    "KI978",
    Status.WARNING,
    "Without the agent cards are followed by the path units alone: later, and without events of the driver.",
    "sudo systemctl restart " + AGENT_UNIT,
)
FILE_MISSING = Kind(
    "KI973",
    Status.FAILURE,
    "Without this file nobody learns that a card comes or goes before the next minute.",
    "Run `kloros-infra apply`, which writes it again.",
)
PROFILE_WRONG = Kind(
    "KI974",
    Status.WARNING,
    "The router serves by the profile of its file. It should be the one that was last chosen by the cards.",
    "Run `kloros-infra gpu reconcile`; `kloros-infra gpu list` says why which profile is active.",
)
LOCKOUT_UNCLEAR = Kind(
    "KI975",
    Status.WARNING,
    "Of a lockout that cannot be understood the last one that could be stays in force.",
    "Mend or remove the file; `kloros-infra gpu lock` and `gpu unlock` write such files for you.",
)


def check_models_file(facts: Facts) -> Iterator[Finding]:
    """Say whether models.yaml can be compiled."""
    wanted = facts.wanted
    errors = [problem for problem in wanted.problems if problem.is_error]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        place = f"{errors[0].span}: " if errors[0].span else ""
        yield found(PROJECT_WRONG, f"{place}{errors[0].code} {errors[0].detail}{more}")
    elif not wanted.has_models_file:
        yield fine("not here; what is installed was looked at instead" if wanted.source else "there is none yet")
    else:
        warnings = len(wanted.problems)
        yield fine(f"can be compiled{f', with {warnings} warnings' if warnings else ''}")


def check_generation(facts: Facts) -> Iterator[Finding]:
    """Hold what is installed against models.yaml."""
    generation = facts.generation
    if isinstance(generation, Unseen):
        yield not_seen(generation)
        return
    problems = list(_generation_problems(generation, has_models_file=facts.wanted.has_models_file))
    good = "" if generation.is_good else ", which has not been found good"
    what = NOTHING if generation.number is None else f"generation {generation.number}{good}, as it was written"
    yield from problems or [fine(what)]


def _generation_problems(generation: Generation, *, has_models_file: bool) -> Iterator[Finding]:
    if generation.interrupted:
        yield found(UNFINISHED, f"an apply was interrupted at: {generation.interrupted}")
    if generation.is_unconfirmed:
        yield found(UNCONFIRMED, "the last apply waits to be confirmed")
    if generation.number is None:
        if has_models_file:
            yield found(NOT_INSTALLED, NOTHING)
        return
    if generation.damage:
        yield found(DAMAGED, generation.damage)
    if generation.differences:
        yield found(NOT_AS_WRITTEN, f"generation {generation.number} differs: {_some(generation.differences)}")
    if generation.drift:
        yield found(NOT_AS_WRITTEN, f"somebody changed what was installed: {_some(generation.drift)}")


def check_units(facts: Facts) -> Iterator[Finding]:
    """Say which units of the generation have failed, those that follow the cards apart."""
    units = facts.units
    if isinstance(units, Unseen):
        yield not_seen(units)
        return
    own = [state for name, state in sorted(units.states.items()) if name not in OF_THE_CARDS]
    failed = [state for state in own if state.active is ActiveState.FAILED]
    for state in failed:
        how = f"{state.result} {state.exit_status}".strip()
        yield found(UNIT_FAILED, f"{state.unit} has failed ({how})", unit=state.unit)
    if not failed:
        running = sum(state.is_active for state in own)
        yield fine(f"{running} of {len(own)} run, none has failed" if own else NOTHING)


def check_triggers(facts: Facts) -> Iterator[Finding]:
    """Say whether changes of the cards are noticed: agent, path units, timer and udev rule."""
    units = facts.units
    if isinstance(units, Unseen):
        yield not_seen(units)
        return
    known = {name: state for name, state in units.states.items() if name in OF_THE_CARDS}
    if not known and not units.missing_files:
        yield fine("not needed, or not installed yet: no card is followed")
        return
    problems = list(_trigger_problems(known, units))
    yield from problems or [fine(f"{AGENT_UNIT} runs, and path units stand by")]


def _trigger_problems(known: dict[str, UnitState], units: Units) -> Iterator[Finding]:
    for path in units.missing_files:
        yield found(FILE_MISSING, f"/{path} is missing")
    for name in (*TRIGGERS, *ONESHOTS):
        state = known.get(name)
        # A oneshot service rests between its runs; a path or timer unit that rests hears nothing.
        if state and (state.active is ActiveState.FAILED or (name in TRIGGERS and not state.is_up)):
            yield found(DEAF, f"{name} is {state.active}", unit=name)
    agent = known.get(AGENT_UNIT)
    if agent is not None and not agent.is_up:
        yield found(AGENT_AWAY, f"{AGENT_UNIT} is {agent.active}")


def check_profile(facts: Facts) -> Iterator[Finding]:
    """Say whether the active profile is the one that was decided."""
    choice = facts.choice
    if isinstance(choice, Unseen):
        yield not_seen(choice)
    elif choice.profile is None:
        yield fine(f"none is chosen yet: {NOTHING}" if not choice.known else "none is chosen since the machine booted")
    else:
        problems = list(_profile_problems(choice.profile, choice))
        reason = f": {choice.report.reason}" if choice.report else ""
        yield from problems or [fine(f"{choice.profile}{reason}")]


def _profile_problems(profile: str, choice: Choice) -> Iterator[Finding]:
    if profile not in choice.known:
        yield found(PROFILE_WRONG, f"{profile} is active, which the installed generation does not have")
    elif choice.report is not None and choice.report.profile != profile:
        yield found(PROFILE_WRONG, f"{profile} is active, and {choice.report.profile} was chosen")


def check_lockouts(facts: Facts) -> Iterator[Finding]:
    """Say whether lockout files can be understood."""
    choice = facts.choice
    if isinstance(choice, Unseen):
        yield not_seen(choice)
        return
    told = {problem.code: problem for problem in choice.problems}
    for problem in told.values():
        yield found(LOCKOUT_UNCLEAR, f"{problem.code}: {problem.detail}")
    if not told:
        yield fine("nothing that cannot be understood")


def _some(words: tuple[str, ...]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more} more" if more > 0 else "")
