"""The journal of answers: what is written is read, and what is damaged is passed over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.router.answer_lines import MOST_ANSWER_BYTES, answer_line, lines_of, read_answers
from kloros_infra.router.dedupe import Kept

ONE = Kept("req_1", b"\x01" * 32, b'{"facts":{"response":"Hi"}}', 12.5)
TWO = Kept("req_2", b"\x02" * 32, b'{"facts":{"response":"Ho"}}', 13.5)


def test_what_is_written_is_read_by_another_process() -> None:
    text = lines_of([ONE, TWO], epoch_offset_s=1_700_000_000.0)
    assert read_answers(text, epoch_offset_s=1_700_000_010.0) == (
        ONE._replace(answered_at=2.5),
        TWO._replace(answered_at=3.5),
    )


def test_of_a_long_answer_only_the_fact_is_kept() -> None:
    long = ONE._replace(answer=b"x" * (MOST_ANSWER_BYTES + 1))
    line = answer_line(long, epoch_offset_s=0.0)
    assert len(line) < 200
    assert read_answers(line, epoch_offset_s=0.0) == (ONE._replace(answer=None),)
    assert (
        read_answers(answer_line(ONE._replace(answer=None), epoch_offset_s=0.0), epoch_offset_s=0.0)[0].answer is None
    )


def test_the_newest_line_of_an_id_counts_and_takes_its_place() -> None:
    text = lines_of([ONE, TWO, ONE._replace(answer=b"newer")], epoch_offset_s=0.0)
    assert read_answers(text, epoch_offset_s=0.0) == (TWO, ONE._replace(answer=b"newer"))


@given(st.data())
def test_a_damaged_line_is_passed_over_and_the_others_are_read(data: st.DataObject) -> None:
    text = lines_of([ONE, TWO], epoch_offset_s=0.0)
    end = text.index("\n")
    at = data.draw(st.integers(0, end - 1))
    broken = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
    assert read_answers(broken, epoch_offset_s=0.0)[-1] == TWO
    assert ONE not in read_answers(broken, epoch_offset_s=0.0)


@given(st.text())
def test_reading_is_total(text: str) -> None:
    read_answers(text, epoch_offset_s=0.0)


def test_a_torn_end_loses_its_line_alone() -> None:
    text = lines_of([ONE, TWO], epoch_offset_s=0.0)
    assert read_answers(text[:-5], epoch_offset_s=0.0) == (ONE,)
