"""The caret stands under its column, whatever is left of it."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.cli.excerpt import CUT, WIDTH_CELLS, excerpt, line_at


@pytest.mark.parametrize(
    ("line", "column", "text", "caret"),
    [
        ("id: code", 5, "id: code", 4),
        ("\tid: code", 2, "    id: code", 4),
        ("ab\tcd", 4, "ab  cd", 4),
        ("名前: code", 5, "名前: code", 6),
        ("na\u0308me: x", 7, "na\u0308me: x", 5),
        ("ﾊﾝ: x", 4, "ﾊﾝ: x", 3),
        ("🦙🦙: x", 5, "🦙🦙: x", 6),
        ("a\x1b[31mb", 3, "a\N{REPLACEMENT CHARACTER}[31mb", 2),
        ("a\u202eb", 3, "a\N{REPLACEMENT CHARACTER}b", 2),
        ("id:", 4, "id:", 3),
        ("id:", 99, "id:", 3),
        ("", 1, "", 0),
    ],
)
def test_a_line_is_laid_out_in_cells(line: str, column: int, text: str, caret: int) -> None:
    shown = excerpt(line, column)
    assert (shown.text, shown.caret) == (text, caret)


def test_a_long_line_is_cut_around_its_column() -> None:
    line = "".join(f"{number:04}" for number in range(200))
    start, middle, end = (excerpt(line, column, width_cells=30) for column in (1, 401, 800))

    assert (start.text, start.caret) == (line[:30] + CUT, 0)
    assert (middle.text, middle.caret) == (CUT + line[380:410] + CUT, 21)
    assert middle.text[middle.caret :].startswith("0100")
    assert (end.text, end.caret) == (CUT + line[779:], 21)
    assert end.text[end.caret] == line[799]


def test_a_cut_never_begins_with_a_mark_of_the_character_before_it() -> None:
    line = "e\u0301" * 100
    assert excerpt(line, 151, width_cells=30).text.startswith(f"{CUT}e\u0301")


def test_marks_alone_are_no_line_to_cut() -> None:
    assert excerpt("x" * 40 + "\u0301" * 50, 90, width_cells=30).caret == 21


def test_a_very_long_line_costs_no_more_than_what_is_shown_of_it() -> None:
    line = "'bad name', " * 50_000
    began = time.process_time()
    shown = [excerpt(line, column) for column in range(1, len(line), 1_200)]

    assert time.process_time() - began < 10
    assert {one.text[one.caret : one.caret + 10] for one in shown} == {"'bad name'"}


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=300), st.integers(1, 310))
def test_every_column_of_every_line_has_a_place_in_sight(line: str, column: int) -> None:
    shown = excerpt(line, column)
    cells = sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in shown.text
    )
    assert 0 <= shown.caret <= cells <= WIDTH_CELLS + 2 * len(CUT)
    assert shown.text.isprintable()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_yaml_does(end: str) -> None:
    text = f"\ufeffone{end}two\x0btwo\u2028two{end}"
    assert [line_at(text, number) for number in range(5)] == [None, "one", "two\x0btwo\u2028two", "", None]
