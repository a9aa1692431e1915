"""Edits change the lines that must change, and no others."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import pytest

from kloros_infra.editing.edits import AppendItem, Edit, Remove, SetValue, Value, Where, model_at, version_at
from kloros_infra.editing.texts import edit_text

CHECKOUT = Path(__file__).parents[3]
ROOT = (CHECKOUT / "models.yaml").read_text()
LAPTOP = (CHECKOUT / "examples" / "laptop" / "models.yaml").read_text()
CODE = "qwen2.5-coder-7b-q4_0"

NASTY = """\
# head comment\twith a tab
version:   1   # one

# about models
models:
- id: 'a'   # first
  current_version: 'v1'  # pinned
  # versions below
  versions:
  -   version_id: 'v1'
      gguf_url: >-
        hf://x/y/z.gguf
      notes: "He said \\"hi\\""   # note
      # still about v1

  -   version_id: v2
      gguf_url: [
        "hf://x/y/a",   # part one
        "hf://x/y/b"    # part two
      ]
  profiles: {max:   {port:   8601},  mid: {port: 8602,}  , }   # odd
  shared: &d {a: 1, b: [1,2]}
  marked: &unused 5
  lone: !!str 12
  tail: |+
    keep


# about b
- {id: b, current_version: "x", versions: [{version_id: "x"}], other: *d}
- <<: *d
  id: c
  empty:
  emptylist: []   # none yet
  emptymap: {}
  last: |
    text

# end of models

personas:
purposes:   # none yet
"""
A, B, C = model_at("a"), model_at("b"), model_at("c")


def edited(text: str, edits: Sequence[Edit]) -> str:
    after, problems = edit_text(text, edits, file="models.yaml")
    assert problems == ()
    assert after is not None
    return after


def changes(text: str, *edits: Edit) -> list[str]:
    """Make edits and give the lines that differ, as a diff writes them."""
    lines = difflib.unified_diff(text.splitlines(), edited(text, edits).splitlines(), n=0, lineterm="")
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def refusal(text: str, edit: Edit) -> tuple[str, str]:
    """Make an edit that cannot be made and give the code, and what it is about."""
    after, problems = edit_text(text, [edit], file="models.yaml")
    assert after is None
    (problem,) = problems
    return problem.code, problem.detail


VERSION: Value = {"version_id": "2025-12-01-01", "gguf_url": "hf://a/b/c.gguf"}
MODEL: Value = {
    "id": "new-model",
    "display_name": "New Model 7B",
    "purpose_tags": ["chat"],
    "current_version": "2026-01-01-01",
    "versions": [{"version_id": "2026-01-01-01", "gguf_url": "hf://a/b/c.gguf"}],
    "profiles": {"max": {"port": 8671}, "cpu_only": None},
}


def test_a_promotion_is_two_lines() -> None:
    assert changes(ROOT, SetValue((*model_at(CODE), "current_version"), "2025-12-01-01")) == [
        '-    current_version: "2025-11-17-01"',
        '+    current_version: "2025-12-01-01"',
    ]


def test_a_version_goes_behind_the_others_in_their_manner() -> None:
    assert changes(ROOT, AppendItem((*model_at(CODE), "versions"), VERSION)) == [
        '+      - version_id: "2025-12-01-01"',
        "+        gguf_url: hf://a/b/c.gguf",
    ]


def test_a_model_looks_like_its_neighbours_and_keeps_their_distance() -> None:
    added = [
        "  - id: new-model",
        "    display_name: New Model 7B",
        "    purpose_tags: [chat]",
        '    current_version: "2026-01-01-01"',
        "    versions:",
        '      - version_id: "2026-01-01-01"',
        "        gguf_url: hf://a/b/c.gguf",
        "    profiles:",
        "      max:      {port: 8671}",
        "      cpu_only: null",
        "",
    ]
    after = edited(ROOT, [AppendItem(("models",), MODEL)])
    assert "\n\n" + "\n".join(added) + "\npersonas:\n" in after
    assert [line for line in changes(ROOT, AppendItem(("models",), MODEL)) if line[0] == "-"] == []


def test_a_purpose_lines_up_with_the_others() -> None:
    purpose = {"candidates": ["new-model"], "otherwise": "fast"}
    assert changes(ROOT, SetValue(("purposes", "poetry"), purpose)) == [
        "+  poetry:             {candidates: [new-model], otherwise: fast}"
    ]


def test_a_comment_keeps_its_column() -> None:
    assert changes(ROOT, SetValue(("defaults", "preload"), True)) == [
        "-  preload: false                      # what is loaded at start says so itself",
        "+  preload: true                       # what is loaded at start says so itself",
    ]


def test_a_persona_with_a_prompt_of_several_lines_is_written_as_it_reads() -> None:
    persona: Value = {"id": "x", "system_prompt": "Hello\n\nthere\n", "sampling": {"temperature": 0.5}}
    assert changes(LAPTOP, AppendItem(("personas",), persona)) == [
        "+  - id: x",
        "+    system_prompt: |",
        "+      Hello",
        "+",
        "+      there",
        "+    sampling: {temperature: 0.5}",
        "+",
    ]


def test_a_section_that_is_not_there_yet_goes_to_the_end() -> None:
    assert changes(LAPTOP, SetValue(("defaults", "preload"), False)) == ["+defaults: {preload: false}"]
    assert changes("version: 1\n", AppendItem(("models",), {"id": "a", "aliases": ["x:1"]})) == [
        "+models:",
        "+  - id: a",
        "+    aliases: [x:1]",
    ]


SETTINGS: list[tuple[Edit, list[str]]] = [
    (
        SetValue((*A, "current_version"), "v2-longer"),
        ["-  current_version: 'v1'  # pinned", "+  current_version: 'v2-longer'  # pinned"],
    ),
    (SetValue(("version",), 2), ["-version:   1   # one", "+version:   2   # one"]),
    (
        SetValue((*A, "versions", Where("version_id", "v1"), "gguf_url"), "hf://one"),
        ["-      gguf_url: >-", "-        hf://x/y/z.gguf", "+      gguf_url: hf://one"],
    ),
    (
        SetValue((*A, "versions", Where("version_id", "v1"), "gguf_url"), "one\ntwo"),
        ["-      gguf_url: >-", "-        hf://x/y/z.gguf", "+      gguf_url: |-", "+        one", "+        two"],
    ),
    (
        SetValue((*A, "versions", 0, "notes"), "two\nlines\n"),
        ['-      notes: "He said \\"hi\\""   # note', "+      notes: |   # note", "+        two", "+        lines"],
    ),
    (
        SetValue((*A, "profiles", "mid", "port"), 9),
        [
            "-  profiles: {max:   {port:   8601},  mid: {port: 8602,}  , }   # odd",
            "+  profiles: {max:   {port:   8601},  mid: {port: 9,}  , }   # odd",
        ],
    ),
    (
        SetValue((*A, "profiles", "cpu_only"), {"port": 3}),
        [
            "-  profiles: {max:   {port:   8601},  mid: {port: 8602,}  , }   # odd",
            "+  profiles: {max:   {port:   8601},  mid: {port: 8602,}, cpu_only: {port: 3}  , }   # odd",
        ],
    ),
    (SetValue((*A, "marked"), 6), ["-  marked: &unused 5", "+  marked: &unused 6"]),
    (SetValue((*C, "last"), "a\nb"), ["-  last: |", "-    text", "+  last: |-", "+    a", "+    b"]),
    (SetValue((*A, "tail"), "new\n"), ["-  tail: |+", "-    keep", "+  tail: |", "+    new"]),
    (SetValue((*C, "empty"), "x"), ["-  empty:", "+  empty: x"]),
    (SetValue((*C, "emptymap", "k"), "z"), ["-  emptymap: {}", "+  emptymap: {k: z}"]),
    (
        SetValue((*C, "emptymap", "k", "l"), {"m": {"n": 1}}),
        ["-  emptymap: {}", "+  emptymap:", "+    k:", "+      l:", "+        m: {n: 1}"],
    ),
    (SetValue((*C, "new"), ["a", "b"]), ["+  new: [a, b]"]),
    (SetValue(("purposes", "fast"), {"candidates": ["a"]}), ["+  fast: {candidates: [a]}"]),
    (SetValue((*B, "current_version"), "y: z"), []),
]


@pytest.mark.parametrize(("edit", "expected"), SETTINGS)
def test_a_value_is_set_where_it_stands(edit: Edit, expected: list[str]) -> None:
    found = changes(NASTY, edit)
    if expected:
        assert found == expected
    else:
        assert len(found) == 2


APPENDED: list[tuple[Edit, list[str]]] = [
    (
        AppendItem((*A, "versions"), {"version_id": "v3", "gguf_url": "hf://q"}),
        ["+", "+  -   version_id: v3", "+      gguf_url: hf://q"],
    ),
    (
        AppendItem((*A, "versions", 1, "gguf_url"), "hf://c"),
        ['-        "hf://x/y/b"    # part two', '+        "hf://x/y/b",    # part two', '+        "hf://c"'],
    ),
    (AppendItem((*C, "emptylist"), "y"), ["-  emptylist: []   # none yet", "+  emptylist: [y]   # none yet"]),
    (
        AppendItem((*C, "emptylist"), {"id": "y"}),
        ["-  emptylist: []   # none yet", "+  emptylist:   # none yet", "+    - id: y"],
    ),
    (AppendItem((*C, "empty"), {"id": "y"}), ["+    - id: y"]),
    (AppendItem((*C, "fresh"), "y"), ["+  fresh: [y]"]),
    (AppendItem(("personas",), {"id": "p"}), ["+- id: p"]),
    (AppendItem(("models",), {"id": "n"}), ["+- id: n"]),
]


@pytest.mark.parametrize(("edit", "expected"), APPENDED)
def test_an_item_goes_behind_the_last(edit: Edit, expected: list[str]) -> None:
    assert changes(NASTY, edit) == expected


def test_lists_between_brackets_grow_in_their_shape() -> None:
    assert changes("a: [1, 2]\n", AppendItem(("a",), 3)) == ["-a: [1, 2]", "+a: [1, 2, 3]"]
    assert changes("a: [\n  1,\n  2,  # two\n]\n", AppendItem(("a",), 3)) == ["+  3,"]
    assert changes("a: [\n  1,\n  2]\n", AppendItem(("a",), 3)) == ["-  2]", "+  2,", "+  3]"]


REMOVED: list[tuple[Edit, list[str]]] = [
    (
        Remove(version_at("a", "v1")),
        [
            "-  -   version_id: 'v1'",
            "-      gguf_url: >-",
            "-        hf://x/y/z.gguf",
            '-      notes: "He said \\"hi\\""   # note',
            "-      # still about v1",
            "-",
        ],
    ),
    (
        Remove((*A, "versions", 1)),
        [
            "-",
            "-  -   version_id: v2",
            "-      gguf_url: [",
            '-        "hf://x/y/a",   # part one',
            '-        "hf://x/y/b"    # part two',
            "-      ]",
        ],
    ),
    (Remove((*A, "versions", 1, "gguf_url", 0)), ['-        "hf://x/y/a",   # part one']),
    (Remove((*A, "versions", 1, "gguf_url", 1)), ['-        "hf://x/y/b"    # part two']),
    (Remove((*A, "marked")), ["-  marked: &unused 5"]),
    (Remove((*C, "emptylist")), ["-  emptylist: []   # none yet"]),
    (Remove((*C, "last")), ["-  last: |", "-    text"]),
    (
        Remove((*B, "current_version")),
        [
            '-- {id: b, current_version: "x", versions: [{version_id: "x"}], other: *d}',
            '+- {id: b, versions: [{version_id: "x"}], other: *d}',
        ],
    ),
    (
        Remove((*B, "id")),
        [
            '-- {id: b, current_version: "x", versions: [{version_id: "x"}], other: *d}',
            '+- {current_version: "x", versions: [{version_id: "x"}], other: *d}',
        ],
    ),
    (
        Remove((*B, "versions", 0)),
        [
            '-- {id: b, current_version: "x", versions: [{version_id: "x"}], other: *d}',
            '+- {id: b, current_version: "x", versions: [], other: *d}',
        ],
    ),
    (
        Remove(B),
        ["-# about b", '-- {id: b, current_version: "x", versions: [{version_id: "x"}], other: *d}'],
    ),
    (Remove((*A, "versions", 0, "version_id")), []),
]


@pytest.mark.parametrize(("edit", "expected"), REMOVED)
def test_what_is_removed_takes_its_comments_along(edit: Edit, expected: list[str]) -> None:
    found = changes(NASTY, edit)
    if expected:
        assert found == expected
    else:
        assert found == ["-  -   version_id: 'v1'", "-      gguf_url: >-", "+  -   gguf_url: >-"]


def test_the_last_part_leaves_empty_brackets() -> None:
    assert changes("a:  # c\n  - 1\nb: 2\n", Remove(("a", 0))) == ["-a:  # c", "-  - 1", "+a: []  # c"]
    assert changes("a:\n  b: 1\n", Remove(("a", "b"))) == ["-a:", "-  b: 1", "+a: {}"]


def test_removing_the_middle_one_leaves_one_gap() -> None:
    assert edited("a:\n  - 1\n\n  - 2\n\n  - 3\n\nb: 1\n", [Remove(("a", 1))]) == "a:\n  - 1\n\n  - 3\n\nb: 1\n"
    assert edited("a:\n  - 1\n\n  - 2\n\nb: 1\n", [Remove(("a", 1))]) == "a:\n  - 1\n\nb: 1\n"
    assert edited("a:\n  - 1\n  - 2\n\nb: 1\n", [Remove(("a", 0))]) == "a:\n  - 2\n\nb: 1\n"


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n...\n"])
def test_the_end_of_the_file_stays_as_it_was(end: str) -> None:
    assert edited(f"a:\n- 1{end}", [AppendItem(("a",), 2)]) == f"a:\n- 1\n- 2{end}"
    assert edited(f"a:\n- 1\n- 2{end}", [Remove(("a", 1))]) == f"a:\n- 1{end}"
    assert edited(f"a: 1{end}", [SetValue(("b",), {"c": 1})]) == f"a: 1\nb: {{c: 1}}{end}"


@pytest.mark.parametrize("text", [ROOT, LAPTOP, NASTY])
def test_line_ends_and_byte_order_mark_stay(text: str) -> None:
    edit = AppendItem(("models",), MODEL)
    windows = "\ufeff" + text.replace("\n", "\r\n")
    assert edited(windows, [edit]) == "\ufeff" + edited(text, [edit]).replace("\n", "\r\n")


def test_several_edits_are_made_one_after_another() -> None:
    first = AppendItem((*model_at(CODE), "versions"), VERSION)
    second = SetValue((*version_at(CODE, "2025-12-01-01"), "notes"), "Q6_K: better")
    assert changes(ROOT, first, second) == [
        '+      - version_id: "2025-12-01-01"',
        "+        gguf_url: hf://a/b/c.gguf",
        '+        notes: "Q6_K: better"',
    ]


def test_an_edit_to_what_stands_there_changes_nothing() -> None:
    assert changes(NASTY, SetValue((*A, "current_version"), "v1")) == []


@pytest.mark.parametrize(
    ("edit", "how"),
    [
        (SetValue((*A, "shared", "a"), 2), "is marked &d and repeated elsewhere"),
        (SetValue((*B, "other", "a"), 2), "repeats &d"),
        (AppendItem((*B, "other", "b"), 2), "repeats &d"),
        (SetValue((*C, "a"), 2), "comes in through <<"),
        (Remove((*A, "shared")), "is marked &d and repeated elsewhere"),
    ],
)
def test_what_other_places_share_is_left_alone(edit: Edit, how: str) -> None:
    code, detail = refusal(NASTY, edit)
    assert code == "KI121"
    assert how in detail


def test_what_is_merged_from_a_list_is_shared_too() -> None:
    text = "x: &x {a: 1}\ny: &y {b: 2}\nz:\n  <<: [*x, *y]\n  c: 3\n"
    assert refusal(text, SetValue(("z", "b"), 9))[0] == "KI121"
    assert changes(text, SetValue(("z", "d"), 4)) == ["+  d: 4"]


@pytest.mark.parametrize(
    ("edit", "missing"),
    [
        (SetValue((*model_at("aa"), "current_version"), "v1"), "'aa'"),
        (Remove((*A, "name")), "'name'"),
        (Remove(("models", 7)), "'7'"),
        (SetValue(("models", 7, "id"), "x"), "'7'"),
        (SetValue(("version", Where("id", "x"), "y"), 1), "'x'"),
    ],
)
def test_what_is_not_there_is_named(edit: Edit, missing: str) -> None:
    code, detail = refusal(NASTY, edit)
    assert code == "KI122"
    assert f"there is no {missing}" in detail


def test_a_misspelt_model_is_recognized() -> None:
    _, problems = edit_text(ROOT, [Remove(model_at("qwen2.5-coder-7b"))], file="models.yaml")
    assert problems[0].hint == f"Did you mean {CODE!r}?"


UNUSUAL: list[tuple[str, Edit]] = [
    (NASTY, SetValue((*A, "versions"), "x")),
    (NASTY, SetValue((*A, "current_version"), ["x"])),
    (NASTY, AppendItem((*A, "current_version"), "x")),
    (NASTY, SetValue(("version", "sub"), 1)),
    (NASTY, SetValue((*A, "lone"), 13)),
    (NASTY, Remove((*A, "id"))),
    ("a: [b,  # about b\n  c]\n", Remove(("a", 0))),
    (NASTY, Remove(())),
    (NASTY, SetValue((), 1)),
    (NASTY, AppendItem((), 1)),
    ("- - 1\n  - 2\n", AppendItem((0,), 3)),
    ("- - 1\n", Remove((0, 0))),
    ("- a: 1\n", Remove((0, "a"))),
    ("-\n  a: 1\n", Remove((0, "a"))),
    ("[]\n", AppendItem((), 1)),
    ("{}\n", SetValue(("a",), 1)),
    ("a: &x [1]\nb: *x\n", Remove(("a",))),
]


@pytest.mark.parametrize(("text", "edit"), UNUSUAL)
def test_what_would_need_more_than_an_edit_is_left_to_the_user(text: str, edit: Edit) -> None:
    assert refusal(text, edit)[0] in {"KI121", "KI123"}


@pytest.mark.parametrize(
    "text",
    ["", "a: [\n", "a: 1\n---\nb: 2\n", "a: *b\n", "[" * 100, 'a: "\\U00110000"\n', "a: \x01\n", "[" * 65 + "]" * 65],
)
def test_a_text_that_is_no_document_is_refused(text: str) -> None:
    assert refusal(text, SetValue(("a",), 1))[0] == "KI120"
