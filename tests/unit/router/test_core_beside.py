"""Instances of one model on other cards: one starts under its profile while another finishes what it has."""

from __future__ import annotations

import pytest

from kloros_infra.ir.routing import RoutedModel, RoutedPurpose, RoutedShare, Upstream
from kloros_infra.router.events import Began, CardsStand, ClosedCard, Outcome, TableReplaced, UnitStopped
from tests.unit.router.told import Told, a_model, a_table, an_instance

CARD_GOES = CardsStand("mid", (ClosedCard("one", "away"),), ("one",))


def on(card: str, name: str, *beside: str, drain_s: float = 30.0) -> Upstream:
    """Build an instance on one card, which can run beside others of its model."""
    return an_instance(name, shares=(RoutedShare(card=card, mib=4000),), beside=beside, drain_s=drain_s)


def code(*, group: str | None = None, drain_s: float = 30.0) -> RoutedModel:
    """Build a model that each profile has on a card of its own."""
    return a_model(
        "code", on("one", "code-max", "code-mid", drain_s=drain_s), on("two", "code-mid", "code-max"), group=group
    )


def streaming(model: RoutedModel) -> tuple[Told, str]:
    """A model under profile max, in the middle of a long answer."""
    told = Told(a_table(model))
    told.down("code-mid")
    told.up("code-max")
    stream = told.ask("code", for_s=500.0)
    told.tell(Began(stream))
    return told, stream


@pytest.mark.parametrize("group", [None, "large"])
def test_a_new_request_is_served_before_the_stream_on_the_card_that_goes_has_ended(group: str | None) -> None:
    told, stream = streaming(code(group=group))

    told.tell(CARD_GOES)
    waiting = told.ask("code")
    assert (told.started, told.stopped) == (["code-mid"], [])
    told.healthy("code-mid")
    assert told.sent == [(waiting, "code-mid")]
    assert told.state("code-max") == "draining"
    told.end(stream)
    assert told.stopped == ["code-max"]


def test_what_is_preloaded_does_not_wait_for_what_its_model_still_does_elsewhere() -> None:
    model = code()
    preloaded = model.upstreams[1].model_copy(update={"preload": True})
    told, _ = streaming(a_model("code", model.upstreams[0], preloaded))

    told.tell(CardsStand("mid"))

    assert (told.started, told.stopped) == (["code-mid"], [])


def test_on_a_card_of_both_it_waits_for_the_stream() -> None:
    model = a_model("code", on("one", "code-max"), on("two", "code-mid"))
    told, stream = streaming(model)

    told.tell(CARD_GOES)
    waiting = told.ask("code")
    assert told.started == []
    told.end(stream)
    told.tell(UnitStopped("code-max"))
    assert told.started == ["code-mid"]
    told.healthy("code-mid")
    assert told.sent == [(waiting, "code-mid")]


def test_what_the_table_has_no_more_is_not_run_beside() -> None:
    told, stream = streaming(code())

    told.tell(TableReplaced(a_table(a_model("code", on("two", "code-mid")))))
    told.tell(CardsStand("mid"))
    told.ask("code")

    assert told.started == []
    told.end(stream)
    told.tell(UnitStopped("code-max"))
    assert told.started == ["code-mid"]


def test_when_its_time_to_drain_is_over_the_new_one_goes_on_with_the_stream() -> None:
    purpose = RoutedPurpose(
        name="code", candidates=("code",), otherwise=None, is_default=True, can_continue_elsewhere=True
    )
    told = Told(a_table(code(drain_s=20.0), purposes=(purpose,)))
    told.down("code-mid")
    told.up("code-max")
    stream = told.ask(for_s=500.0)
    told.tell(Began(stream))

    told.tell(CARD_GOES)
    other = told.ask("code")
    told.healthy("code-mid")
    told.end(other)
    told.after(20.0)
    assert told.stopped == ["code-max"]
    told.end(stream, Outcome.BROKEN)
    assert told.sent == [(stream, "code-mid")]
