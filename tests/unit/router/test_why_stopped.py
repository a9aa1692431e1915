"""Why an instance was stopped, for whoever had an answer on its way."""

from __future__ import annotations

import pytest

from kloros_infra.ir.requests import Priority
from kloros_infra.router.events import CardsStand, ClosedCard, StopAsked, TableReplaced, UnitSeen, UnitStopped
from tests.unit.router.told import Told, a_model, a_table, an_instance


@pytest.fixture
def told() -> Told:
    """Two models that do not fit on the card together, the first of them ready and at work."""
    other = a_model("b", an_instance("b-max", 9000), an_instance("b-mid", 9000))
    told = Told(a_table(a_model("a"), other))
    told.down("b-max", "b-mid")
    told.up("a-max")
    told.ask("a", for_s=900.0)
    return told


def why(told: Told) -> str | None:
    return told.core.why_stopped("a-max")


def test_of_what_serves_and_of_strangers_there_is_nothing_to_say(told: Told) -> None:
    assert why(told) is None
    assert told.core.why_stopped("east/a") is None


def test_of_what_has_ended_by_itself_neither(told: Told) -> None:
    told.tell(UnitSeen("a-max", is_up=False))
    assert why(told) is None


def test_a_card_that_goes_is_named_from_then_on(told: Told) -> None:
    told.tell(CardsStand("max", (ClosedCard("one", "locked out: gaming"),)))
    assert why(told) == "its card one is locked out: gaming"
    told.after(40.0)
    told.tell(UnitStopped("a-max"))
    assert why(told) == "its card one is locked out: gaming"


def test_a_card_that_others_take_is_not_to_be_used(told: Told) -> None:
    told.tell(CardsStand("mid", (), ("one",)))
    told.after(40.0)
    assert told.state("a-max") == "stopping"
    assert why(told) == "its card is not to be used"


def test_an_operator_is_told_of_until_it_runs_again(told: Told) -> None:
    told.tell(StopAsked("a-max"))
    assert why(told) is None  # it may finish what it has
    told.after(40.0)
    assert why(told) == "an operator wanted that"
    told.tell(UnitStopped("a-max"))
    assert why(told) == "an operator wanted that"
    told.up("a-max")
    assert why(told) is None


def test_others_that_need_its_memory_are_told_of(told: Told) -> None:
    told.tell(CardsStand("mid"))
    told.ask("b", for_s=900.0, priority=Priority.VOICE)
    told.after(40.0)
    assert why(told) == "others need its memory"


def test_a_profile_that_is_active_no_more_is_told_of(told: Told) -> None:
    told.tell(CardsStand("mid"))
    told.after(340.0)
    assert why(told) == "its profile is not active any more"


def test_what_the_table_has_no_more_is_stopped_for_that(told: Told) -> None:
    told.tell(TableReplaced(a_table(a_model("b"))))
    told.after(40.0)
    assert why(told) == "models.yaml has it no more"


def test_what_somebody_else_stops_is_stopped(told: Told) -> None:
    told.tell(UnitSeen("a-max", is_up=True, pid=100, is_stopping=True))
    assert why(told) == "its unit was stopped"
