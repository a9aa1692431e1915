"""The generated folder holds exactly the tree, and each of its files is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.generated_folder import differences, read_tree, update_folder, write_text_atomically
from kloros_infra.ir.artifact import ArtifactTree, Link, TextFile

TREE: ArtifactTree = {
    "etc/a.service": TextFile("[Unit]\n"),
    "etc/wants/a.service": Link("../a.service"),
    "usr/bin/run": TextFile("#!/bin/sh\n", 0o755),
}


def test_a_tree_comes_back_as_written(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    assert differences(folder, TREE) == tuple(sorted(TREE))
    update_folder(folder, TREE)
    assert read_tree(folder) == TREE
    assert differences(folder, TREE) == ()


def test_only_what_differs_is_written_and_what_is_extra_goes(tmp_path: Path) -> None:
    update_folder(tmp_path, TREE)
    kept = (tmp_path / "usr/bin/run").stat().st_ino
    (tmp_path / "etc/a.service").write_text("edited")
    (tmp_path / "etc/wants/a.service").unlink()
    (tmp_path / "etc/wants/a.service").symlink_to("/elsewhere")
    (tmp_path / "old/deep").mkdir(parents=True)
    (tmp_path / "old/deep/file").write_text("")
    assert differences(tmp_path, TREE) == ("etc/a.service", "etc/wants/a.service", "old/deep/file")
    update_folder(tmp_path, TREE)
    assert read_tree(tmp_path) == TREE
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "usr/bin/run").stat().st_ino == kept


def test_a_mode_that_git_keeps_counts_as_a_difference(tmp_path: Path) -> None:
    update_folder(tmp_path, TREE)
    (tmp_path / "usr/bin/run").chmod(0o644)
    assert differences(tmp_path, TREE) == ("usr/bin/run",)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(file, "new \udcff")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
