"""How much others use of a card: what is in use, less what is ours."""

from __future__ import annotations

from kloros_infra.ir.card_facts import CardFacts, CardReading, DeclaredCard, DriverReading, Fault, FaultKind, Holder
from kloros_infra.topology.foreign import OurUse, facts_of_cards

CARD = DeclaredCard("rtx3060", pci="0000:04:00.0")
LOST = Fault(FaultKind.LOST, 5.0, is_lasting=True)
GAME, BROWSER, MINE = Holder(7, "game", 600), Holder(3, "browser", None), Holder(42, "llama-server", 5000)


def facts(reading: CardReading | None, ours: OurUse | None = None, *, is_stale: bool = False) -> CardFacts:
    driver = DriverReading((reading,) if reading else (), is_stale=is_stale)
    (found,) = facts_of_cards((CARD,), {"rtx3060"}, driver, ours or OurUse())
    return found


def read(*processes: Holder, used: int | None = 6000) -> CardReading:
    return CardReading("rtx3060", "GPU-1", None, 12_000, used, processes, (LOST,))


def test_what_is_ours_is_taken_off_and_others_are_named() -> None:
    found = facts(read(MINE, BROWSER, GAME), OurUse(((42, 43),), {"rtx3060": ((42, 43),)}))
    assert found == CardFacts("rtx3060", True, "GPU-1", "0000:04:00.0", 12_000, 1000, (GAME, BROWSER), (LOST,))


def test_what_ended_meanwhile_does_not_make_others_use_less_than_nothing() -> None:
    assert facts(read(MINE, used=100), OurUse(((42,),))).foreign_bytes == 0


def test_it_is_not_known_where_the_driver_does_not_count_ours() -> None:
    assert facts(read(Holder(42, "llama-server", None)), OurUse(((42,),))).foreign_bytes is None
    assert facts(read(GAME), OurUse(((42,),), {"rtx3060": ((42,),)})).foreign_bytes is None
    assert facts(read(GAME), OurUse(((42,),), {"rtx5080": ((42,),)})).foreign_bytes == 6000
    assert facts(read(used=None)).foreign_bytes is None


def test_what_the_driver_said_before_tells_who_a_card_is_and_not_who_uses_it() -> None:
    found = facts(read(GAME), is_stale=True)
    assert (found.foreign_bytes, found.uuid, found.faults) == (None, "GPU-1", (LOST,))


def test_without_a_driver_or_a_card_its_declaration_is_known() -> None:
    assert facts(None) == CardFacts("rtx3060", True, None, "0000:04:00.0")
    (gone,) = facts_of_cards((CARD,), (), DriverReading((read(GAME),)), OurUse())
    assert gone == CardFacts("rtx3060", False, None, "0000:04:00.0")
