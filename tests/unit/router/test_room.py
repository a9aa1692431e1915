"""Room on the cards: what fits, who has to stop, and who never does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.ir.routing import RoutedShare
from kloros_infra.router.room import MOST_COMBINED, Holder, Room, plan_room, used_mib

CAPACITIES = {"one": 10, "two": 10}


def a_holder(name: str, one: int = 0, two: int = 0, *, group: str | None = None, used_at: float = 0.0) -> Holder:
    shares = tuple(RoutedShare(card=card, mib=mib) for card, mib in (("one", one), ("two", two)) if mib)
    return Holder(name, shares, frozenset() if group is None else frozenset({group}), used_at)


def plan(
    wanted: Holder, *holders: Holder, evictable: str = "", foreign: dict[str, int] | None = None
) -> Room | tuple[str, ...]:
    return plan_room(
        wanted, holders, capacities=CAPACITIES, foreign=foreign or {}, evictable=frozenset(evictable.split())
    )


def test_what_fits_beside_the_others_starts_with_nothing_stopped() -> None:
    assert plan(a_holder("a", 6), a_holder("b", 4)) is Room.FITS
    assert plan(a_holder("a"), a_holder("b", 10, 10)) is Room.FITS
    # Its own share is not counted twice.
    assert plan(a_holder("a", 6), a_holder("a", 6)) is Room.FITS


def test_what_others_use_of_a_card_is_not_there() -> None:
    assert plan(a_holder("a", 6), foreign={"one": 4}) is Room.FITS
    assert plan(a_holder("a", 6), foreign={"one": 5}) is Room.NEVER
    assert plan(a_holder("a", 6), foreign={"two": 10}) is Room.FITS


def test_a_card_without_a_capacity_holds_everything() -> None:
    wanted = Holder("a", (RoutedShare(card="remote", mib=10**6),))
    assert plan(wanted) is Room.FITS


def test_a_card_that_is_not_wanted_does_not_matter_however_full_it_is() -> None:
    assert plan(a_holder("a", 6), a_holder("b", 0, 9), a_holder("c", 0, 9)) is Room.FITS


def test_the_fewest_bytes_stop() -> None:
    holders = a_holder("big", 6), a_holder("small", 2), a_holder("other", 0, 9)
    assert plan(a_holder("a", 4), *holders, evictable="big small other") == ("small",)
    assert plan(a_holder("a", 5), *holders, evictable="big small other") == ("big",)
    assert plan(a_holder("a", 9), *holders, evictable="big small other") == ("big", "small")


def test_of_equals_the_longest_unused_stops() -> None:
    holders = a_holder("b", 5, used_at=2.0), a_holder("c", 5, used_at=1.0)
    assert plan(a_holder("a", 5), *holders, evictable="b c") == ("c",)


def test_what_may_not_stop_is_waited_for() -> None:
    assert plan(a_holder("a", 6), a_holder("b", 5)) is Room.BUSY
    assert plan(a_holder("a", 6), a_holder("b", 3), a_holder("c", 3), evictable="b") == ("b",)
    assert plan(a_holder("a", 8), a_holder("b", 3), a_holder("c", 3), evictable="b") is Room.BUSY


def test_models_of_one_group_take_turns_even_where_both_fit() -> None:
    wanted, rival = a_holder("a", 1, group="large"), a_holder("b", 1, group="large")
    assert plan(wanted, rival, evictable="b") == ("b",)
    assert plan(wanted, rival) is Room.BUSY
    assert plan(wanted, a_holder("c", 1, group="small")) is Room.FITS
    assert plan(a_holder("a", 6, group="large"), rival, a_holder("d", 5), evictable="b d") == ("b", "d")


def test_of_very_many_the_longest_unused_stop_first() -> None:
    holders = [a_holder(f"h{index}", 1, used_at=-index) for index in range(MOST_COMBINED + 2)]
    names = " ".join(holder.instance for holder in holders)
    assert plan(a_holder("a", 3), *holders, evictable=names) == ("h9", "h8", "h7")


shares = st.integers(0, 7)


@given(
    wanted=st.tuples(shares, shares),
    others=st.lists(st.tuples(shares, shares, st.booleans(), st.sampled_from([None, "g"])), max_size=11),
    group=st.sampled_from([None, "g"]),
    foreign=st.integers(0, 6),
)
def test_a_plan_makes_room_and_stops_nobody_who_may_not_stop(
    wanted: tuple[int, int], others: list[tuple[int, int, bool, str | None]], group: str | None, foreign: int
) -> None:
    holders = [a_holder(f"h{i}", one, two, group=g) for i, (one, two, _, g) in enumerate(others)]
    evictable = frozenset(f"h{i}" for i, other in enumerate(others) if other[2])
    new = a_holder("new", *wanted, group=group)
    found = plan_room(new, holders, capacities=CAPACITIES, foreign={"one": foreign}, evictable=evictable)
    if found is Room.BUSY:
        return
    stopped = found if isinstance(found, tuple) else ()
    assert set(stopped) <= evictable
    staying = [holder for holder in holders if holder.instance not in stopped]
    used = used_mib([new, *staying])
    free = {"one": 10 - foreign, "two": 10}
    fits = all(used.get(share.card, 0) <= free[share.card] for share in new.shares)
    assert fits is (found is not Room.NEVER)
    if found is not Room.NEVER:
        assert all(holder.turns.isdisjoint(new.turns) for holder in staying)
