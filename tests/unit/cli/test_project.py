"""Reading a project from disk: what is included, and what must not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kloros_infra.cli.project import Project, read_project, read_source
from kloros_infra.compiler.source_builder import MAX_BYTES
from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ProblemsError

HEAD = "version: 1\nhosts: {box: {role: local}}\nprofiles: {cpu_only: {gpus: []}}\n"
MODEL = """\
models:
  - id: NAME
    display_name: NAME
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    current_version: "1"
    versions: [{version_id: "1", gguf_url: file:///weights/NAME.gguf}]
    profiles: {cpu_only: {port: 8601}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project's folder the current one, so that places are relative."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    for name in ("b", "a", ".hidden"):
        (folder / "models" / f"{name}.yaml").write_text(MODEL.replace("NAME", name))
    monkeypatch.chdir(folder)
    return folder


def project(include: str, file: str = "models.yaml") -> Project:
    Path(file).write_text(f"{HEAD}include: {include}\n")
    return read_project(Path(file))


def problems(include: str, more: str = "") -> Problems:
    with pytest.raises(ProblemsError) as caught:
        project(f"{include}\n{more}")
    return caught.value.problems


def told(include: str, more: str = "") -> list[tuple[str, str]]:
    return [(problem.code, str(problem.span)) for problem in problems(include, more)]


def test_files_of_a_folder_come_in_the_order_of_their_names(folder: Path) -> None:
    found = project("models/*.yaml")

    assert list(found.parts) == ["models/a.yaml", "models/b.yaml"]
    assert found.sources["models/a.yaml"] == MODEL.replace("NAME", "a")
    assert "models.yaml" in found.sources


def test_a_file_is_included_once_where_it_is_named_first(folder: Path) -> None:
    assert list(project("[models/b.yaml, 'models/*.yaml', ./models/a.yaml]").parts) == [
        "models/b.yaml",
        "models/a.yaml",
    ]


def test_names_are_those_of_the_roots_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)

    assert list(project("'*/a.yaml'", "project/models.yaml").parts) == ["project/models/a.yaml"]


def test_the_root_and_its_lock_are_not_among_what_a_pattern_names(folder: Path) -> None:
    (folder / "models.lock.yaml").write_text("version: 1\nweights: {}\n")
    (folder / "gpus.yaml").write_text("gpus: {}\n")

    assert list(project("'*.yaml'").parts) == ["gpus.yaml"]


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "models" / "c.yaml").mkdir()

    assert list(project("'models/*.yaml'").parts) == ["models/a.yaml", "models/b.yaml"]
    assert project("['models/a.yaml/*', none/*.yaml]").parts == {}


def test_links_within_the_project_are_followed(folder: Path) -> None:
    (folder / "linked").symlink_to("models")
    (folder / "c.yaml").symlink_to("models/a.yaml")

    assert list(project("[linked/b.yaml, c.yaml]").parts) == ["linked/b.yaml", "c.yaml"]


def test_links_out_of_the_project_are_refused(folder: Path) -> None:
    (folder.parent / "secret.yaml").write_text(MODEL)
    (folder / "models" / "c.yaml").symlink_to(folder.parent / "secret.yaml")
    (folder / "out").symlink_to(folder.parent)

    assert told("[models/c.yaml, out/secret.yaml]") == [("KI114", "models.yaml:4:11"), ("KI114", "models.yaml:4:26")]


def test_a_link_that_leads_nowhere_is_told(folder: Path) -> None:
    (folder / "models" / "c.yaml").symlink_to("gone.yaml")

    (problem,) = problems("models/*.yaml")
    assert (problem.code, str(problem.span)) == ("KI100", "models.yaml:4:10")
    assert problem.detail.startswith("models/c.yaml: No such file")


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "models" / "c.yaml")

    assert list(project("models/*.yaml").parts) == ["models/a.yaml", "models/b.yaml"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("models.yaml", "is models.yaml or its lock"),
        ("./models.lock.yaml", "is models.yaml or its lock"),
        ("models", "is a folder"),
        ("pipe.yaml", "is no plain file"),
    ],
)
def test_what_is_there_and_cannot_be_included_is_told_with_the_reason(folder: Path, name: str, reason: str) -> None:
    os.mkfifo(folder / "pipe.yaml")
    (problem,) = problems(name)

    assert (problem.code, str(problem.span)) == ("KI113", "models.yaml:4:10")
    assert reason in problem.detail


def test_a_name_that_no_file_can_have_is_told(folder: Path) -> None:
    assert told("x" * 300) == [("KI100", "models.yaml:4:10")]


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    (folder / "models" / "a.yaml").write_bytes(b"models: \xff\n")
    (folder / "models" / "b.yaml").write_text("personas: [{id: x}]\n")

    assert told("[models/*.yaml, gone.yaml, /etc/hosts]", "gpus: {x: 1}") == [
        ("KI113", "models.yaml:4:26"),
        ("KI114", "models.yaml:4:37"),
        ("KI104", "models.yaml:5:11"),
        ("KI109", "models/a.yaml:1:9"),
        ("KI103", "models/b.yaml:1:12"),
    ]


def test_files_are_no_larger_together_than_one_may_be(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / "models" / f"{name}.yaml").write_text("#" * (MAX_BYTES // 2 + 1))

    assert told("models/*.yaml") == [("KI110", "models/a.yaml:1:1"), ("KI108", "models/b.yaml:1:1")]


@pytest.mark.parametrize("length", [0, 2**16 - 1, 2**16, 2**16 + 1, MAX_BYTES])
def test_a_file_is_read_whole(tmp_path: Path, length: int) -> None:
    (tmp_path / "models.yaml").write_bytes(b"#" * length)

    assert len(read_source(tmp_path / "models.yaml")) == length


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ProblemsError) as caught:
        read_source(Path("/dev/zero"))
    assert [problem.code for problem in caught.value.problems] == ["KI108"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProblemsError) as caught:
        read_project(tmp_path / "models.yaml")
    (problem,) = caught.value.problems
    assert problem.code == "KI100"
    assert "--file" in problem.hint
