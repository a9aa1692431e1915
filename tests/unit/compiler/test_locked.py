"""models.yaml against the lock: what validate says, and what `lock --check` says beyond that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kloros_infra.compiler.emit_lock import header_path
from kloros_infra.compiler.locked import check_cover, check_lock, locate, lockables, other_bytes
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.ir.lock import Lock, LockedWeights, Origin
from tests.factories import A_SHA256, a_gguf_header, a_lock, some_weights

TEXT = f"""\
version: 1
hosts: {{box: {{}}}}
profiles: {{cpu_only: {{gpus: []}}, idle: {{gpus: []}}}}
models:
  - id: eye
    display_name: Eye
    kind: vision
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    current_version: "2"
    versions:
      - version_id: "1"
        gguf_url: file:///weights/eye-1.gguf
      - version_id: "2"
        gguf_url: file:///weights/eye-2.gguf
        mmproj_url: file:///weights/eye-2-mmproj.gguf
        sha256: {A_SHA256}
    profiles:
      cpu_only: {{port: 8601, context_tokens: 4096}}
      idle: null
purposes: {{fast: {{candidates: [eye], default: true}}}}
"""


def parsed() -> Parsed:
    one, problems = parse(TEXT, file="models.yaml")
    assert one is not None, problems
    return one


def an_entry(name: str, **changes: Any) -> LockedWeights:
    number = name[0]
    source = f"file:///weights/eye-{number}{'-mmproj' if name.endswith('+mmproj') else ''}.gguf"
    entry = some_weights(f"eye@{name}", source=(source,), header=a_gguf_header(context=8192))
    return replace(entry, **changes)


def the_lock(*changed: LockedWeights, without: str = "") -> Lock:
    """Build the lock that fits, but for these entries."""
    entries = [an_entry("1"), an_entry("2"), an_entry("2+mmproj")]
    found = {entry.key: entry for entry in (*entries, *changed) if entry.key != without}
    return a_lock(*found.values())


def said(problems: Problems) -> list[tuple[str, str, str]]:
    return [(one.code, str(one.span), one.address) for one in problems]


def checked(lock: Lock, *, unsound: frozenset[str] = frozenset(), left: tuple[str, ...] = ()) -> Problems:
    headers = [header_path(key) for key in lock.weights.keys() | unsound]
    return check_cover(parsed(), lock, headers=[*headers, *left], unsound=unsound)


def test_everything_that_needs_an_entry_is_listed_once() -> None:
    assert [(one.key, one.is_projector) for one in lockables(parsed().config)] == [
        ("eye@1", False),
        ("eye@2", False),
        ("eye@2+mmproj", True),
    ]


def test_a_lock_that_fits_is_fine() -> None:
    assert tuple(check_lock(parsed(), the_lock())) == ()
    assert checked(the_lock()) == ()


def test_a_version_that_is_not_in_use_matters_to_the_check_alone() -> None:
    lock = the_lock(without="eye@1")

    assert tuple(check_lock(parsed(), lock)) == ()
    assert said(checked(lock)) == [("KI301", "models.yaml:14:19", "models.eye.versions.1.gguf_url")]


def test_the_projector_of_the_version_in_use_must_be_locked() -> None:
    lock = the_lock(without="eye@2+mmproj")

    assert said(tuple(check_lock(parsed(), lock))) == [
        ("KI301", "models.yaml:17:21", "models.eye.versions.2.mmproj_url")
    ]


def test_another_source_is_out_of_date() -> None:
    lock = the_lock(an_entry("1", source=("file:///weights/old.gguf",)), an_entry("2+mmproj", source=("file:///old",)))

    found = checked(lock)

    assert [(one.code, one.address) for one in found] == [
        ("KI302", "models.eye.versions.1.gguf_url"),
        ("KI302", "models.eye.versions.2.mmproj_url"),
    ]
    assert "file:///weights/old.gguf" in found[0].detail


def test_other_bytes_than_models_yaml_names_are_an_error() -> None:
    found = checked(the_lock(an_entry("2", sha256="f" * 64)))

    assert said(found) == [("KI329", "models.yaml:18:17", "models.eye.versions.2.sha256")]
    assert other_bytes("eye@2", A_SHA256, "f" * 64).detail == found[0].detail


def test_a_derived_entry_is_a_warning_and_has_no_bytes_to_compare() -> None:
    found = checked(the_lock(an_entry("2", origin=Origin.DERIVED, files=(), sha256=None)))

    assert [one.code for one in found] == ["KI303"]
    assert not has_errors(found)


def test_context_is_compared_with_the_training_for_each_profile() -> None:
    short = a_gguf_header(context=3000)

    found = tuple(check_lock(parsed(), the_lock(an_entry("2", header=short))))

    assert said(found) == [("KI304", "models.yaml:20:46", "models.eye.profiles.cpu_only.context_tokens")]
    assert [one.code for one in check_lock(parsed(), the_lock(an_entry("2", header=a_gguf_header(context=256))))] == [
        "KI304",
        "KI304",
    ]


def test_entries_and_header_files_that_belong_to_nothing_are_named() -> None:
    found = checked(the_lock(some_weights("gone@1")), left=("models.lock/older@1.json",))

    assert [(one.code, one.address) for one in found] == [
        ("KI327", "models.lock/older@1.json"),
        ("KI326", "weights.gone@1"),
    ]


def test_what_is_wrong_with_an_entry_is_said_once() -> None:
    assert checked(the_lock(without="eye@2"), unsound=frozenset({"eye@2"})) == ()
    assert [one.code for one in checked(the_lock(), unsound=frozenset({"gone@1"}))] == ["KI326"]


def test_what_lock_found_gets_its_place() -> None:
    problem = other_bytes("eye@2", "a", "b")
    placed = replace(problem, address="models.eye.versions.2.mmproj_url")

    assert said(locate(parsed(), [placed])) == [("KI329", "models.yaml:17:21", "models.eye.versions.2.mmproj_url")]
    assert locate(parsed(), [problem]) == (problem,)
