"""The matrix of GPUs lists every set, with what runs under it."""

from __future__ import annotations

from dataclasses import replace

from kloros_infra.planner.matrix import HEADER, CardUse, MatrixRow, matrix, matrix_cells, matrix_json
from kloros_infra.router.profile import select_profile
from tests.factories import a_card, a_profile
from tests.sites import Site

MIB = 2**20
A, B = a_card("a"), a_card("b")
PROFILES = (a_profile("max", A, B), a_profile("mid", A))
SITE = Site(models=tuple(replace(model, vram="a:10/100", preload=model.name == "code") for model in Site().models))


def select(present: frozenset[str]) -> str:
    return select_profile(PROFILES, present)


def test_every_set_is_listed_the_fullest_first() -> None:
    rows = matrix(SITE.desired(), PROFILES, select)
    assert [(row.present, row.absent, row.profile) for row in rows] == [
        (("a", "b"), (), "max"),
        (("a",), ("b",), "mid"),
        (("b",), ("a",), "mid"),
        ((), ("a", "b"), "mid"),
    ]
    use = (CardUse("a", 10 * MIB, 100 * MIB),)
    assert rows[0] == MatrixRow(("a", "b"), (), "max", ("code-max",), ("chat-max",), use)
    assert rows[1].instances == ("code-mid",)


def test_of_many_cards_only_the_likely_sets_are_listed() -> None:
    cards = tuple(a_card(f"c{number}") for number in range(8))
    rows = matrix(SITE.desired(), (a_profile("max", *cards), a_profile("mid")), lambda _: "mid")
    assert sorted({len(row.present) for row in rows}) == [0, 1, 6, 7, 8]
    assert len(rows) == 1 + 8 + 28 + 8 + 1


def test_cells_say_none_where_there_is_nothing() -> None:
    row = MatrixRow((), ("a",), "cpu_only", (), (), ())
    assert matrix_cells([row]) == (HEADER, ("none", "cpu_only", "none", "none"))


def test_cells_and_json_hold_the_same() -> None:
    row = matrix(SITE.desired(), PROFILES, select)[0]
    assert matrix_cells([row])[1] == ("a, b", "max", "code-max, (chat-max on demand)", "a 10.5 MB of 104.9 MB")
    assert matrix_json(row) == {
        "type": "matrix_row",
        "present": ("a", "b"),
        "absent": (),
        "profile": "max",
        "instances": ("code-max",),
        "on_demand": ("chat-max",),
        "cards": [{"card": "a", "used_bytes": 10 * MIB, "capacity_bytes": 100 * MIB}],
    }


def test_an_instance_whose_file_is_missing_takes_nothing() -> None:
    desired = SITE.desired()
    rows = matrix(replace(desired, tree={}), PROFILES, select)
    assert all(row.cards == () for row in rows)
