"""One run tells everything: what is wrong in one place does not hide what is wrong in another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.compiler.emit_lock import HEADERS_FOLDER, LOCK_FILE, emit_lock
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.sources import Sources
from kloros_infra.compiler.stations import Checked, Station, check_project
from kloros_infra.diagnostics import Problems, Span
from tests.factories import a_lock_for

TEXT = """\
version: 1
hosts: {astraea: {role: local}}
gpus:
  big: {host: astraea, uuid: GPU-5a2b3c4d-0000-1111-2222-333344445555, vram: 24GiB, bandwidth: 900GB/s,
        compute_capability: "8.6"}
  small: {host: astraea, uuid: GPU-6a2b3c4d-0000-1111-2222-333344445555, vram: 3GiB, bandwidth: 300GB/s,
          compute_capability: "8.6"}
profiles:
  max: {gpus: [big]}
  min: {gpus: [small]}
models:
  - id: first
    display_name: First
    purpose_tags: [chat]
    context_tokens: 2048
    cost_tier: low
    versions: [{version_id: "1", gguf_url: file:///weights/first.gguf}]
    profiles:
      max: {port: 8601}
      min: null
  - id: second
    display_name: Second
    purpose_tags: [chat]
    context_tokens: 2048
    cost_tier: low
    versions: [{version_id: "1", gguf_url: file:///weights/second.gguf}]
    profiles:
      max: {port: 8602}
      min: {port: 8603}
purposes:
  chat: {candidates: [first, second], default: true}
"""
FITS = TEXT.replace("vram: 3GiB", "vram: 16GiB")
TOO_BIG = "      min: {port: 8603}"


def sources(text: str) -> Sources:
    """Give a text with a lock that fits it."""
    parsed, problems = parse(text, file="models.yaml")
    assert parsed, problems
    lock_text, headers = lock_texts(text)
    return Sources(text, "models.yaml", lock_text, LOCK_FILE, headers)


def lock_texts(text: str) -> tuple[str, dict[str, str]]:
    parsed, _ = parse(text, file="models.yaml")
    assert parsed
    texts = emit_lock(a_lock_for(parsed.config))
    return texts[LOCK_FILE], {name: one for name, one in texts.items() if name.startswith(HEADERS_FOLDER)}


def edited(before: str, after: str, *, text: str = TEXT) -> Sources:
    """Change a text and keep its lock."""
    assert before in text
    return replace(sources(text), text=text.replace(before, after))


def codes(problems: Problems) -> list[str]:
    return [problem.code for problem in problems if problem.is_error]


def placed(checked: Checked) -> set[str]:
    return {str(instance) for instance in checked.placements}


def test_a_project_without_errors_is_known_whole() -> None:
    checked = check_project(sources(FITS))
    assert codes(checked.problems) == []
    assert placed(checked) == {"first-max", "second-max", "second-min"}
    assert checked.catalog is not None
    assert checked.catalog.purposes


def test_what_does_not_fit_has_its_line() -> None:
    (problem,) = (one for one in check_project(sources(TEXT)).problems if one.is_error)
    assert (problem.code, problem.span) == ("KI401", Span("models.yaml", TEXT.splitlines().index(TOO_BIG) + 1, 7))
    assert problem.address == "models.second.profiles.min"


def test_wrong_values_do_not_hide_a_broken_lock() -> None:
    checked = check_project(replace(sources(TEXT), text="version: 2\n", lock_text="version: 2\nweights: {}\n"))
    assert {problem.span.file for problem in checked.problems if problem.span} == {"models.yaml", LOCK_FILE}
    assert checked.parsed is None


def test_a_text_that_is_no_yaml_does_not_hide_a_broken_lock() -> None:
    checked = check_project(replace(sources(TEXT), text="version: [", lock_text="version: ["))
    assert codes(checked.problems) == ["KI101", "KI101"]


def test_a_lock_that_cannot_be_read_does_not_hide_wrong_references() -> None:
    checked = check_project(replace(edited("candidates: [first,", "candidates: [frist,"), lock_text="version: ["))
    assert codes(checked.problems) == ["KI101", "KI206"]
    assert checked.catalog is None


def test_without_a_lock_every_model_is_named() -> None:
    checked = check_project(replace(sources(TEXT), lock_text=None))
    assert codes(checked.problems) == ["KI301", "KI301"]
    assert placed(checked) == set()


def test_an_entry_that_does_not_hold_is_told_once_and_the_other_models_are_placed() -> None:
    good = sources(TEXT)
    broken = {name: one for name, one in good.headers.items() if "first" not in name}
    checked = check_project(replace(good, headers=broken))
    assert codes(checked.problems) == ["KI305", "KI401"]
    assert placed(checked) == {"second-max"}


def test_a_wrong_model_does_not_hide_that_another_does_not_fit() -> None:
    checked = check_project(edited("- id: first", "- id: first\n    current_version: '2'"))
    assert codes(checked.problems) == ["KI205", "KI401"]
    assert placed(checked) == {"second-max"}


def test_a_wrong_purpose_keeps_no_model_from_being_placed() -> None:
    checked = check_project(edited("candidates: [first,", "candidates: [frist,"))
    assert codes(checked.problems) == ["KI401", "KI206"]
    assert placed(checked) == {"first-max", "second-max"}


@pytest.mark.parametrize(
    ("before", "after"),
    [("gpus: [small]", "gpus: [smal]"), ("role: local", "role: remote"), ("vram: 3GiB", "vram: 256MiB")],
)
def test_wrong_hardware_says_nothing_about_any_model(before: str, after: str) -> None:
    checked = check_project(edited(before, after))
    assert not [code for code in codes(checked.problems) if code.startswith("KI4")]
    assert checked.problems
    assert checked.catalog is None


def test_a_model_goes_with_its_draft() -> None:
    text = TEXT.replace("- id: first", "- id: first\n    draft: {model: second}")
    checked = check_project(edited("- id: second", "- id: second\n    current_version: '2'", text=text))
    assert codes(checked.problems) == ["KI205"]
    assert placed(checked) == set()


def test_stations_are_announced_in_their_order() -> None:
    seen: list[Station] = []
    check_project(sources(TEXT), seen.append)
    assert seen == list(Station)
