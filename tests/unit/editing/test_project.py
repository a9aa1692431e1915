"""With included files, each edit is made where the thing stands."""

from __future__ import annotations

from kloros_infra.editing.edits import AppendItem, Edit, Remove, SetValue, model_at, version_at
from kloros_infra.editing.project import edit_project

ROOT = """\
version: 1
include:
  - models/a.yaml   # the small one
  - "models/b.yaml"
purposes:
  fast: {candidates: [a]}
"""
A = 'models:\n  - id: a\n    current_version: "1"\n    versions:\n      - version_id: "1"\n'
B = A.replace("id: a", "id: b") + "personas:\n  - id: p\n"
TEXTS = {"models.yaml": ROOT, "models/a.yaml": A, "models/b.yaml": B}


def test_the_file_that_holds_the_place_is_edited() -> None:
    changed, problems = edit_project(TEXTS, [SetValue((*model_at("b"), "current_version"), "2")])
    assert problems == ()
    assert changed == {"models/b.yaml": B.replace('current_version: "1"', 'current_version: "2"')}


def test_the_file_with_the_last_edit_is_written_last() -> None:
    edits: list[Edit] = [
        SetValue(("purposes", "fast", "otherwise"), "slow"),
        AppendItem((*model_at("a"), "versions"), {"version_id": "2"}),
        SetValue((*version_at("b", "1"), "notes"), "old"),
        SetValue(("purposes", "slow"), {"candidates": ["b"]}),
    ]
    changed, problems = edit_project(TEXTS, edits)
    assert problems == ()
    assert changed is not None
    assert list(changed) == ["models/a.yaml", "models/b.yaml", "models.yaml"]


def test_a_new_model_goes_into_none_of_the_others_files() -> None:
    changed, _ = edit_project(TEXTS, [AppendItem(("models",), {"id": "c"})])
    assert changed == {"models.yaml": ROOT + "models:\n  - id: c\n"}


def test_a_section_that_one_file_has_grows_there() -> None:
    changed, _ = edit_project(TEXTS, [AppendItem(("personas",), {"id": "q"})])
    assert changed == {"models/b.yaml": B + "\n  - id: q\n"}
    changed, _ = edit_project(TEXTS, [SetValue(("purposes", "slow"), {"candidates": ["b"]})])
    assert changed is not None
    assert list(changed) == ["models.yaml"]


def test_an_edit_that_changes_nothing_writes_nothing() -> None:
    assert edit_project(TEXTS, [SetValue((*model_at("a"), "current_version"), "1")]) == ({}, ())


def test_one_edit_that_cannot_be_made_undoes_all() -> None:
    edits: list[Edit] = [SetValue((*model_at("a"), "current_version"), "2"), Remove(model_at("nobody"))]
    changed, problems = edit_project(TEXTS, edits)
    assert changed is None
    assert [problem.code for problem in problems] == ["KI122"]


def test_a_file_that_is_no_yaml_is_named() -> None:
    changed, (problem,) = edit_project({**TEXTS, "models/b.yaml": "a: ["}, [Remove(model_at("a"))])
    assert changed is None
    assert problem.span is not None
    assert (problem.code, problem.span.file) == ("KI120", "models/b.yaml")
