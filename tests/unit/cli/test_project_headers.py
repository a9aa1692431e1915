"""What lies beside models.yaml: header files that entries name, others, and a folder that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.cli.project import read_project
from kloros_infra.errors import ProblemsError

LOCK = "version: 1\nweights:\n  a@1:\n    header: models.lock/a@1.json\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "models.yaml").write_text("version: 1\n")
    (tmp_path / "models.lock.yaml").write_text(LOCK)
    (tmp_path / "models.lock").mkdir()
    (tmp_path / "models.lock" / "a@1.json").write_text("{}")
    return tmp_path / "models.yaml"


def test_stray_entries_are_known_by_name_alone(file: Path) -> None:
    folder = file.parent / "models.lock"
    (folder / "folder.json").mkdir()
    (folder / "nowhere.json").symlink_to("nowhere")
    (folder / "bytes.json").write_bytes(b"\xff\xfe\xff")
    (folder / "README.md").write_text("Headers.")

    assert read_project(file).headers == {
        "models.lock/a@1.json": "{}",
        "models.lock/bytes.json": "",
        "models.lock/folder.json": "",
        "models.lock/nowhere.json": "",
    }


def test_a_header_that_an_entry_names_must_be_readable(file: Path) -> None:
    header = file.parent / "models.lock" / "a@1.json"
    header.unlink()
    header.mkdir()
    with pytest.raises(ProblemsError, match=r"KI100.*a@1.json"):
        read_project(file)


def test_a_folder_of_headers_that_cannot_be_read_is_named(file: Path) -> None:
    folder = file.parent / "models.lock"
    folder.rename(file.parent / "elsewhere")
    assert read_project(file).headers == {}
    folder.write_text("a file")
    with pytest.raises(ProblemsError, match=r"KI100.*models.lock: Not a directory"):
        read_project(file)
