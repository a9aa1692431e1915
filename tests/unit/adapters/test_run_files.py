"""The small files of a reconcile, where something is in their way."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kloros_infra.adapters.run_files import RunFiles


@contextmanager
def no_room() -> Iterator[None]:
    """Have no file take a byte, as on a full disk: the write fails, which knows no name (setrlimit(2), EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_is_told_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    RunFiles(tmp_path).write("a", "before")
    with no_room(), pytest.raises(OSError, match="too large") as refused:
        RunFiles(tmp_path).write("a", "after")
    assert refused.value.filename == str(tmp_path / "a")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "before")]


def test_a_folder_in_a_files_place_is_taken_away_if_it_is_empty(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    (tmp_path / "flag").mkdir()
    assert files.remove("flag")
    assert not files.exists("flag")
    assert not files.remove("flag")
    (tmp_path / "flag" / "kept").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        files.remove("flag")
