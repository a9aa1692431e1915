"""With included files, each edit is made where the thing stands."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kloros_infra.editing.edits import AppendItem, Edit, Remove, SetValue, model_at, version_at
from kloros_infra.editing.project import edit_project
from kloros_infra.editing.texts import read_tree

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


def _many(models: int, versions: int) -> str:
    listed = "".join(f"      - version_id: v{one}  # {one}\n" for one in range(versions))
    return "models:\n" + "".join(f"  - id: m{model}\n    versions:\n{listed}" for model in range(models))


def _without_old(models: int, versions: int) -> list[Edit]:
    return [Remove(version_at(f"m{model}", f"v{one}")) for model in range(models) for one in range(versions)]


def test_many_removals_leave_what_each_by_itself_would() -> None:
    text = _many(5, 4)
    edits = _without_old(5, 3)
    one_by_one: Mapping[str, str] = {"a": text}
    for edit in edits:
        changed, _ = edit_project(one_by_one, [edit])
        assert changed is not None
        one_by_one = changed

    assert edit_project({"a": text}, edits) == (one_by_one, ())


def test_removals_that_cannot_be_made_in_one_go_are_made_one_by_one_or_explained() -> None:
    every = [Remove(version_at("m0", f"v{one}")) for one in range(2)]
    changed, _ = edit_project({"a": _many(1, 2)}, every)
    assert changed == {"a": "models:\n  - id: m0\n    versions: []\n"}
    nothing, (problem,) = edit_project({"a": _many(2, 2)}, [*_without_old(2, 1), Remove(version_at("m9", "v0"))])
    assert (nothing, problem.code) == (None, "KI122")


def test_removals_next_to_comments_within_brackets_are_left_to_the_user() -> None:
    flow = "    versions: [{version_id: v0}, # old\n               {version_id: v1}]\n"
    text = f"models:\n  - id: m0\n{flow}  - id: m1\n{flow}"
    nothing, (problem,) = edit_project({"a": text}, _without_old(2, 1))
    assert (nothing, problem.code) == (None, "KI123")


def test_the_time_of_many_removals_does_not_grow_with_their_square() -> None:
    began = time.process_time()
    changed, _ = edit_project({"a": _many(150, 4)}, _without_old(150, 3))
    assert changed is not None
    # One by one it would be 450 readings of the text.
    readings = (time.process_time() - began) / _reading_s(_many(150, 4))
    assert readings < 60


def _reading_s(text: str) -> float:
    began = time.process_time()
    read_tree(text, "a")
    return time.process_time() - began
