"""Lock text and header texts → Lock."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import yaml

from kloros_infra.compiler.header_json import header_to_json
from kloros_infra.compiler.parse_lock import LOCK_AGAIN, RESTORE, parse_entries, parse_lock
from kloros_infra.diagnostics import Problems
from kloros_infra.ir.lock import Lock, LockedFile, Origin, Pin
from kloros_infra.ir.split_gguf import set_sha256
from tests.factories import a_gguf_header

HEADER = a_gguf_header()
HEADER_TEXT = header_to_json(HEADER)
HEADERS = {"models.lock/small@1.json": HEADER_TEXT}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def an_entry(**changes: Any) -> dict[str, Any]:
    return {
        "origin": "package",
        "source": ["package://m/a.part0", "package://m/a.part1"],
        "revision": "1.2.3",
        "files": [
            {"source": "package://m/a.part0", "size_bytes": 60, "sha256": sha256("part 0")},
            {"source": "package://m/a.part1", "size_bytes": 40, "sha256": sha256("part 1")},
        ],
        "size_bytes": 100,
        "sha256": sha256("both"),
        "header": "models.lock/small@1.json",
        "header_sha256": sha256(HEADER_TEXT),
        **changes,
    }


def a_derived_entry(**changes: Any) -> dict[str, Any]:
    return an_entry(origin="derived", revision=None, files=[], sha256=None) | changes


def lock_text(**entries: Any) -> str:
    return yaml.safe_dump({"version": 1, "weights": {key.replace("_", "@"): entry for key, entry in entries.items()}})


def refused(text: str, headers: dict[str, str] = HEADERS) -> Problems:
    lock, problems = parse_lock(text, headers, file="models.lock.yaml")
    assert lock is None
    return problems


def accepted(text: str, headers: dict[str, str] = HEADERS) -> Lock:
    lock, problems = parse_lock(text, headers, file="models.lock.yaml")
    assert problems == ()
    assert lock is not None
    return lock


def test_an_entry_is_read_with_its_header() -> None:
    (weights,) = accepted(lock_text(small_1=an_entry())).weights.values()

    assert weights.key == "small@1"
    assert weights.origin is Origin.PACKAGE
    assert weights.source == ("package://m/a.part0", "package://m/a.part1")
    assert weights.files[1] == LockedFile("package://m/a.part1", 40, sha256("part 1"))
    assert weights.header == HEADER
    assert not weights.is_derived


def test_a_derived_entry_has_no_files() -> None:
    lock = accepted(lock_text(small_1=a_derived_entry()))

    assert lock.weights["small@1"].is_derived


def test_an_empty_lock_is_a_lock() -> None:
    assert accepted("version: 1\nweights: {}\n", {}).weights == {}


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        (an_entry(header="models.lock/gone.json"), "KI305", "models.lock/gone.json"),
        (an_entry(header_sha256="0" * 64), "KI306", "0" * 64),
        (an_entry(sha256=None), "KI308", "no sha256"),
        (an_entry(size_bytes=99), "KI308", "99 bytes"),
        (a_derived_entry(sha256="0" * 64), "KI308", "derived"),
        (a_derived_entry(files=an_entry()["files"]), "KI308", "derived"),
    ],
)
def test_entries_that_do_not_hold_are_refused(entry: dict[str, Any], code: str, said: str) -> None:
    (problem,) = refused(lock_text(small_1=entry))

    assert problem.code == code
    assert said in problem.detail
    assert str(problem.span) == "models.lock.yaml:3:3"
    assert problem.hint == LOCK_AGAIN


def test_an_entry_of_an_earlier_version_holds_and_is_to_be_read_again() -> None:
    text = HEADER_TEXT.replace('"tokenizer_pre": null,\n', "")

    found, _ = parse_entries(
        lock_text(small_1=an_entry(header_sha256=sha256(text))),
        {"models.lock/small@1.json": text},
        file="models.lock.yaml",
    )

    assert found is not None
    assert found.lock.weights["small@1"].header == HEADER
    assert (list(found.pins), found.unsound, found.problems) == (["small@1"], set(), ())


SPLIT = [f"hf://o/r/m-0000{number}-of-00002.gguf" for number in (1, 2)]


def a_split_entry(**changes: Any) -> dict[str, Any]:
    files = [{"source": source, "size_bytes": 50, "sha256": sha256(source)} for source in SPLIT]
    joined = set_sha256(sha256(source) for source in SPLIT)
    return an_entry(origin="hub", source=SPLIT[:1], files=files, sha256=joined, revision="c" * 40) | changes


@pytest.mark.parametrize("revision", [None, "main", "c" * 39, "c" * 40 + "\n", "../" * 13 + "c"])
def test_what_comes_from_the_hub_is_pinned_to_a_commit(revision: str | None) -> None:
    (problem,) = refused(lock_text(small_1=a_split_entry(revision=revision)))

    assert problem.address == "weights.small@1.revision"


def test_a_size_beyond_any_file_is_refused() -> None:
    (problem,) = refused(lock_text(small_1=an_entry(size_bytes=10**40)))

    assert problem.address == "weights.small@1.size_bytes"


def test_a_split_entry_is_read() -> None:
    entry = accepted(lock_text(small_1=a_split_entry())).weights["small@1"]

    assert (entry.part_count, len(entry.files)) == (2, 2)
    assert accepted(lock_text(small_1=an_entry(source=["file:///m-00001-of-00001.gguf"]))).weights


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (a_split_entry(sha256="0" * 64), "not that of its parts"),
        (a_split_entry(source=["hf://o/r/m-00001-of-00003.gguf"]), "has 3 parts, and it pins others"),
        (a_split_entry(files=a_split_entry()["files"][::-1]), "pins others"),
    ],
)
def test_a_split_entry_that_is_not_whole_is_refused(entry: dict[str, Any], said: str) -> None:
    (problem,) = refused(lock_text(small_1=entry))

    assert problem.code == "KI308"
    assert said in problem.detail


def test_a_header_that_cannot_be_read_is_refused() -> None:
    entry = an_entry(header_sha256=sha256("{}"))

    (problem,) = refused(lock_text(small_1=entry), {"models.lock/small@1.json": "{}"})

    assert problem.code == "KI307"


def test_all_entries_are_looked_at() -> None:
    problems = refused(lock_text(a_1=an_entry(header="gone"), b_1=an_entry(size_bytes=1)))

    assert [problem.code for problem in problems] == ["KI305", "KI308"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version: 1\nweights: [", "KI101"),
        ("version: 1\n", "KI103"),
        ("version: 2\nweights: {}\n", "KI105"),
        ("version: 1\nweights: {}\nextra: 1\n", "KI102"),
        ("version: 1\nweights: {}\nweights: {}\n", "KI106"),
        (lock_text(small_1=an_entry(sha256="abc")), "KI105"),
        (lock_text(small_1=an_entry(origin="internet")), "KI105"),
    ],
)
def test_a_lock_that_was_edited_badly_is_refused(text: str, code: str) -> None:
    problems = refused(text)

    assert [problem.code for problem in problems] == [code]
    assert all(problem.hint == RESTORE and problem.span for problem in problems)
    assert parse_entries(text, HEADERS, file="models.lock.yaml") == (None, problems)


def test_entries_that_hold_are_kept_and_the_others_keep_their_pins() -> None:
    text = lock_text(small_1=an_entry(), lost_1=an_entry(header="gone"), wrong_1=an_entry(size_bytes=1))

    found, problems = parse_entries(text, HEADERS, file="models.lock.yaml")

    assert problems == ()
    assert found is not None
    assert list(found.lock.weights) == ["small@1"]
    source = ("package://m/a.part0", "package://m/a.part1")
    assert found.unsound == {"lost@1", "wrong@1"}
    assert found.pins == {key: Pin(source, Origin.PACKAGE, "1.2.3") for key in ("lost@1", "wrong@1")}
    assert [(problem.code, problem.address) for problem in found.problems] == [
        ("KI305", "weights.lost@1"),
        ("KI308", "weights.wrong@1"),
    ]
