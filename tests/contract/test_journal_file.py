"""The journal on disk: what it tells after a kill, and how much of it is kept."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.journal_file import JOURNAL_FOLDER, KEPT_FILES, JournalFile
from kloros_infra.executor.ports import Journal
from kloros_infra.ir.generation import Interrupted
from tests.fakes.outside import FakeJournal

ONE, TWO = {"kind": "WriteArtifact", "text": "write one"}, {"kind": "WriteArtifact", "text": "write two"}


@pytest.fixture(params=["fake", "real"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return FakeJournal() if request.param == "fake" else JournalFile(tmp_path)


def test_a_new_journal_knows_of_no_interruption(journal: Journal) -> None:
    assert journal.unfinished() is None


def test_a_killed_apply_is_told_by_its_last_step(journal: Journal) -> None:
    journal.begin({"previous": 1, "goal": 2})
    journal.before(0, ONE)
    journal.after(0, ONE)
    journal.before(1, TWO)
    found = journal.unfinished()
    assert found is not None
    assert found.step == "write two"


def test_a_finished_apply_is_no_interruption(journal: Journal) -> None:
    journal.before(0, ONE)
    journal.undone(0, ONE)
    journal.finish("undone")
    assert journal.unfinished() is None


def files(root: Path) -> list[Path]:
    return sorted((root / JOURNAL_FOLDER).iterdir())


def test_each_apply_has_its_file_of_json_lines(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    for outcome in ("applied", "undone"):
        journal.before(3, ONE)
        journal.finish(outcome)
    assert [file.name for file in files(tmp_path)] == ["00000001.jsonl", "00000002.jsonl"]
    first, last = (json.loads(line) for line in files(tmp_path)[1].read_text().splitlines())
    assert {key: first[key] for key in ("event", "index", "step")} == {"event": "before", "index": 3, "step": ONE}
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
    journal.before(0, ONE)
    with files(tmp_path)[0].open("a") as stream:
        stream.write(tail)
    found = JournalFile(tmp_path).unfinished()
    assert found is not None
    assert found.step == "write one"


def test_an_interruption_tells_between_which_generations_and_when(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.begin({"previous": None, "goal": 7, "steps": 3})
    journal.before(0, ONE)
    found = JournalFile(tmp_path).unfinished()
    assert found is not None
    assert (found.previous, found.goal) == (None, 7)
    assert found.at.endswith("+00:00")


def test_each_apply_begins_a_file_even_after_an_interrupted_one(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    for _ in range(2):
        journal.begin({"previous": None, "goal": 1, "steps": 1})
        journal.before(0, ONE)
    assert len(files(tmp_path)) == 2


def test_a_journal_of_the_first_version_is_understood(tmp_path: Path) -> None:
    folder = tmp_path / JOURNAL_FOLDER
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_text('{"at": "2026", "event": "before", "index": 0, "step": "write old"}\n')
    assert JournalFile(tmp_path).unfinished() == Interrupted("write old", "2026")


def test_a_file_without_a_step_tells_nothing(tmp_path: Path) -> None:
    folder = tmp_path / JOURNAL_FOLDER
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_text("")
    assert JournalFile(tmp_path).unfinished() is None


def test_an_apply_that_was_killed_before_its_first_step_does_not_hide_the_one_before_it(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.begin({"previous": 1, "goal": 2})
    journal.before(0, ONE)
    JournalFile(tmp_path).begin({"previous": 1, "goal": 2})
    (tmp_path / JOURNAL_FOLDER / "00000003.jsonl").touch()
    found = JournalFile(tmp_path).unfinished()
    assert found is not None
    assert found.step == "write one"
    JournalFile(tmp_path).finish("nothing was left to do")
    assert JournalFile(tmp_path).unfinished() is None


def test_what_is_no_file_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.begin({"previous": 1, "goal": 2})
    (tmp_path / JOURNAL_FOLDER / "9-copy.jsonl").write_text("{}\n")
    assert list(JournalFile(tmp_path).applies()) == [1]


FULL = """
import resource, signal, sys
from pathlib import Path
from kloros_infra.adapters.journal_file import JournalFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = JournalFile(Path(sys.argv[1]))
journal.begin({"previous": 1, "goal": 2})
_, unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), unlimited))
try:
    journal.before(0, {"text": "x" * 1000})
except OSError as error:
    print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
journal.finish("undone")
"""


def test_a_line_that_the_disk_took_in_part_does_not_spoil_the_next(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FULL, str(tmp_path), "500"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{errno.ENOSPC}\n", "")
    events = [json.loads(line)["event"] for line in files(tmp_path)[0].read_text().splitlines()]
    assert events == ["begin", "finish"]
