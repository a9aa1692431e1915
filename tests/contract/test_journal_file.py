"""The journal on disk: what it tells after a kill, and how much of it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kloros_infra.adapters.journal_file import JOURNAL_FOLDER, KEPT_FILES, JournalFile
from kloros_infra.executor.ports import Journal
from tests.fakes.outside import FakeJournal


@pytest.fixture(params=["fake", "real"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return FakeJournal() if request.param == "fake" else JournalFile(tmp_path)


def test_a_new_journal_knows_of_no_interruption(journal: Journal) -> None:
    assert journal.unfinished() is None


def test_a_killed_apply_is_told_by_its_last_step(journal: Journal) -> None:
    journal.before(0, "write one")
    journal.after(0, "write one")
    journal.before(1, "write two")
    assert journal.unfinished() == "write two"


def test_a_finished_apply_is_no_interruption(journal: Journal) -> None:
    journal.before(0, "write one")
    journal.undone(0, "write one")
    journal.finish("undone")
    assert journal.unfinished() is None


def files(root: Path) -> list[Path]:
    return sorted((root / JOURNAL_FOLDER).iterdir())


def test_each_apply_has_its_file_of_json_lines(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    for outcome in ("applied", "undone"):
        journal.before(3, "start x")
        journal.finish(outcome)
    assert [file.name for file in files(tmp_path)] == ["00000001.jsonl", "00000002.jsonl"]
    first, last = (json.loads(line) for line in files(tmp_path)[1].read_text().splitlines())
    assert {key: first[key] for key in ("event", "index", "step")} == {"event": "before", "index": 3, "step": "start x"}
    assert last["outcome"] == "undone"
    assert last["at"].endswith("+00:00")


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for _ in range(KEPT_FILES + 5):
        JournalFile(tmp_path).finish("applied")
    assert len(files(tmp_path)) == KEPT_FILES
    assert files(tmp_path)[-1].name == f"{KEPT_FILES + 5:08}.jsonl"


@pytest.mark.parametrize("tail", ['{"event": "bef', "\x00\x00\n", "[1]\n", '{"event": "before"}\n', ""])
def test_a_cut_or_damaged_line_is_passed_over(tmp_path: Path, tail: str) -> None:
    journal = JournalFile(tmp_path)
    journal.before(0, "write one")
    with files(tmp_path)[0].open("a") as stream:
        stream.write(tail)
    assert JournalFile(tmp_path).unfinished() == "write one"


def test_a_file_without_a_step_tells_nothing(tmp_path: Path) -> None:
    folder = tmp_path / JOURNAL_FOLDER
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_text("")
    assert JournalFile(tmp_path).unfinished() is None
