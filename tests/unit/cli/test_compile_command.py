"""`kloros-infra compile` with the caches of its user: found, passed over, unusable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kloros_infra.adapters.generated_folder import read_tree
from kloros_infra.cli.commands.compile_command import command
from tests.many_models import MODELS, ManyModels


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the caches of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


def write(folder: Path, project: ManyModels) -> Path:
    """Write a project down; give its models.yaml."""
    sources = project.sources()
    (folder / "models.lock").mkdir(parents=True, exist_ok=True)
    for name, text in {"models.yaml": sources.text, sources.lock_file: sources.lock_text, **sources.headers}.items():
        (folder / name).write_text(text or "")
    return folder / "models.yaml"


def compile_it(file: Path, *words: str) -> tuple[int, int]:
    """Run compile; give how many files there are, and how many it changed."""
    done = CliRunner().invoke(command, ["--file", str(file), *words])
    found = re.search(r": (\d+) files, (\d+) changed\.$", done.output.strip())
    assert done.exit_code == 0, done.output
    assert found is not None, done.output
    return int(found[1]), int(found[2])


def kept(caches: Path) -> list[Path]:
    """List what is kept of compiles."""
    return sorted(caches.rglob("kloros-infra/compile/*"))


def test_a_compile_takes_over_what_the_last_one_kept(tmp_path: Path, caches: Path) -> None:
    file = write(tmp_path / "site", ManyModels())

    files, changed = compile_it(file)
    assert files == changed > 2 * 2 * MODELS
    assert len(kept(caches)) == 3
    assert compile_it(file) == (files, 0)

    write(file.parent, ManyModels(port=9500))
    # Its env file has another name, its unit names that, and the routing table names the port.
    assert compile_it(file) == (files, 4)
    found = read_tree(file.parent / "generated")
    assert compile_it(file, "--no-cache", "--output", str(tmp_path / "anew")) == (files, files)
    assert read_tree(tmp_path / "anew") == found


def test_without_the_cache_nothing_is_kept(tmp_path: Path, caches: Path) -> None:
    compile_it(write(tmp_path / "site", ManyModels()), "--no-cache")

    assert kept(caches) == []


def test_a_cache_of_something_else_is_replaced(tmp_path: Path, caches: Path) -> None:
    file = write(tmp_path / "site", ManyModels())
    compile_it(file)
    for one in kept(caches):
        one.write_bytes(b"something else")

    assert compile_it(file)[1] == 0
    assert all(one.stat().st_size > 1000 for one in kept(caches))


def test_caches_that_cannot_be_written_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/caches")

    files, changed = compile_it(write(tmp_path / "site", ManyModels()))

    assert files == changed
