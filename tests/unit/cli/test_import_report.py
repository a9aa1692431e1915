"""The report of an import: names, what became of them, notes once."""

from __future__ import annotations

from kloros_infra.cli.importing import report_lines
from kloros_infra.migration.taken_over import Row


def lines(*rows: Row, width: int = 60) -> list[str]:
    return list(report_lines(rows, width=width))


def test_names_are_lined_up_and_notes_stand_below() -> None:
    assert lines(Row("a:latest", ("a", "b"), ("one thing", "another")), Row("bb", ("bb",))) == [
        "  a:latest  → a, b",
        "            · one thing",
        "            · another",
        "  bb        → bb",
    ]


def test_what_is_not_taken_over_says_why_beside_its_name() -> None:
    assert lines(Row("a", (), ("why not", "more")), Row("b")) == ["  a  why not", "     · more", "  b"]


def test_notes_that_all_share_come_once() -> None:
    rows = [Row(name, (name,), ("same", name * 2)) for name in "ab"]
    assert lines(*rows) == ["  a  → a", "     · aa", "  b  → b", "     · bb", "  all of them: same"]


def test_long_notes_are_wrapped_and_never_broken() -> None:
    shown = lines(Row("a", ("a",), (f"a note that is too long for one line, with {'x' * 80}",)), width=40)
    assert shown[1:] == ["     · a note that is too long for one", "       line, with", f"       {'x' * 80}"]
    assert lines() == []
