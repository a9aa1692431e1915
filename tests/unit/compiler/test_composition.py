"""Several files → one. Files that are refused are in tests/cases/diagnostics."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.composition import IncludePattern, check_included, compose, included, is_name_match
from kloros_infra.compiler.composition_problems import not_included
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.source_builder import MAX_VALUES
from kloros_infra.diagnostics import Problems, Severity, Span

ROOT = (Path(__file__).parents[2] / "cases" / "diagnostics" / "nothing_wrong" / "models.yaml").read_text()
HEAD, _, REST = ROOT.partition("models:\n")
MODEL, _, PURPOSES = REST.partition("\npurposes:")
INCLUDING = "version: 1\ninclude: models/*.yaml\n" + HEAD.removeprefix("version: 1\n")


def source(text: str, file: str = "models.yaml") -> Source:
    found, told = read(text, file=file)
    assert told == ()
    assert found is not None
    return found


def composed(root: str, *parts: str) -> tuple[Source, Problems]:
    return compose(source(root), [source(text, f"part{number}.yaml") for number, text in enumerate(parts)])


def joined(root: str, *parts: str) -> Source:
    found, told = composed(root, *parts)
    assert told == ()
    return found


def spans(problems: Problems) -> list[tuple[str, str]]:
    return [(problem.code, str(problem.span)) for problem in problems]


def pattern(text: str) -> IncludePattern:
    return IncludePattern(text, Span("models.yaml", 1, 1))


def model(name: str, port: int) -> str:
    """Write a file with one model."""
    text = MODEL.replace("id: small", f"id: {name}").replace("Small", name)
    return "models:\n" + text.replace("8601", str(port)).replace("8602", str(port + 1))


def test_lists_follow_one_another_the_roots_first() -> None:
    found = joined("models: [a]\n", "models: [b, c]\n", "models:\n- d\n")

    assert found.tree == {"models": ["a", "b", "c", "d"]}
    assert str(found.span(("models", 0))) == "models.yaml:1:10"
    assert str(found.span(("models", 2))) == "part0.yaml:1:13"
    assert str(found.span(("models", 3))) == "part1.yaml:2:3"
    assert str(found.span(("models",))) == "models.yaml:1:1"


def test_mappings_are_joined_key_by_key() -> None:
    found = joined("profiles: {a: {}}\n", "profiles:\n  b: {c: 1}\n", "bus: {managed: true}\n")

    assert found.tree == {"profiles": {"a": {}, "b": {"c": 1}}, "bus": {"managed": True}}
    assert str(found.key_span(("profiles", "b"))) == "part0.yaml:2:3"
    assert str(found.span(("profiles", "b", "c"))) == "part0.yaml:2:10"
    assert str(found.span(("bus",))) == "part1.yaml:1:1"
    assert found.written(("profiles", "b", "c")) == "1"


def test_a_section_without_values_says_nothing() -> None:
    assert joined("models:\n", "models: [a]\n", "models: ~\n").tree == {"models": ["a"]}
    assert joined("models:\n", "models:\n").tree == {"models": None}


def test_what_is_set_aside_holds_anchors_and_nothing_else() -> None:
    found = joined("x-a: &a {b: 1}\nbus: *a\n", "x-a: &a {c: 2}\nbridge: *a\nx-b:\n")

    assert found.tree == {"bus": {"b": 1}, "bridge": {"c": 2}}
    assert str(found.span(("bridge", "c"))) == "part0.yaml:1:13"


def test_the_same_key_in_two_files_is_told_with_both_places() -> None:
    found, told = composed("hosts: {a: 1}\n", "hosts: {b: 2, a: 3}\n")

    assert found.tree == {"hosts": {"a": 1, "b": 2}}
    assert spans(told) == [("KI111", "part0.yaml:1:15")]
    assert told[0].detail == "hosts.a stands in models.yaml:1:9 already."
    assert told[0].address == "hosts.a"


@pytest.mark.parametrize(
    ("first", "second"), [("[a]", "{a: b}"), ("{a: b}", "[a]"), ("a", "[a]"), ("a", "a"), ("a", "b")]
)
def test_what_cannot_be_joined_is_told(first: str, second: str) -> None:
    found, told = composed(f"hosts: {first}\n", f"hosts: {second}\n")

    assert found.tree == source(f"hosts: {first}\n").tree
    assert spans(told) == [("KI111", "part0.yaml:1:1")]


def test_the_version_is_the_roots_and_may_be_repeated() -> None:
    assert joined("version: 1\n", "version: 1\n").tree == {"version": 1}
    assert joined("hosts: {}\n", "version: 1\n").tree == {"hosts": {}}
    assert spans(composed("version: 1\n", "version: 2\n")[1]) == [("KI111", "part0.yaml:1:1")]


def test_an_included_file_includes_nothing() -> None:
    found, told = composed("include: a.yaml\nhosts: {}\n", "include: b.yaml\nhosts: {a: 1}\n")

    assert found.tree == {"hosts": {"a": 1}}
    assert spans(told) == [("KI112", "part0.yaml:1:1")]


@pytest.mark.parametrize("text", ["[a]", "a"])
def test_an_included_file_has_sections(text: str) -> None:
    assert spans(composed("hosts: {}\n", text)[1]) == [("KI104", "part0.yaml:1:1")]


def test_a_root_without_sections_stays_as_it_is() -> None:
    assert composed("[a]", "hosts: {}\n")[0].tree == ["a"]


def test_files_are_no_larger_together_than_one_may_be() -> None:
    most = "- &thousand [" + "1," * 999 + "]\n" + "- *thousand\n" * (MAX_VALUES // 2000)
    half = f"a:\n{most}"

    found, told = composed(half, half)

    assert spans(told) == [("KI108", "models.yaml:1:1")]
    assert found.tree == source(half).tree


def test_what_could_not_be_read_is_known_of_all_files() -> None:
    root, _ = read("a: *x\n", file="models.yaml")
    part, _ = read("b: *y\n", file="part.yaml")
    assert root is not None
    assert part is not None

    assert {str(span) for span in compose(root, [part])[0].unread} == {"models.yaml:1:4", "part.yaml:1:4"}


@pytest.mark.parametrize(
    ("text", "path", "is_match"),
    [
        ("a.yaml", "a.yaml", True),
        ("./models//a.yaml", "models/a.yaml", True),
        ("models/*.yaml", "models/a.yaml", True),
        ("models/*.yaml", "models/.a.yaml", False),
        ("models/.*.yaml", "models/.a.yaml", True),
        ("models/.a.yaml", "models/.a.yaml", True),
        ("models/*.yaml", "models/A.YAML", False),
        ("models/*.yaml", "models/a/b.yaml", False),
        ("*/a.yaml", "models/a.yaml", True),
        ("*.yaml", "models/a.yaml", False),
        ("[ab].yaml", "b.yaml", True),
        ("?.yaml", "ab.yaml", False),
        ("", "a.yaml", False),
    ],
)
def test_patterns_name_files_of_one_depth(text: str, path: str, is_match: bool) -> None:
    assert pattern(text).is_match(path) is is_match


@given(st.text("ab*", max_size=12), st.text("ab", max_size=40))
def test_matching_names_takes_no_time(text: str, name: str) -> None:
    begin = time.process_time()

    is_name_match(text, name)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("version: 1\n", []),
        ("# include: a.yaml\n", []),
        ("version: 1\ninclude: a.yaml\n", ["a.yaml"]),
        ("  version: 1\n  include : [a.yaml, 'b/*.yaml']\n", ["a.yaml", "b/*.yaml"]),
        ("{version: 1, 'include': [a.yaml]}", ["a.yaml"]),
        ("include: [a.yaml, 1, ../b.yaml, {c: d}, null]\n", ["a.yaml"]),
        ("include: {a: b}\n", []),
        ("include:\n", []),
        ("include: [\n", []),
        ("[include: a]\n", []),
        ("models:\n  include: a.yaml\n", []),
        ("x: &x [a.yaml]\ninclude: *x\n", ["a.yaml"]),
    ],
)
def test_what_a_file_includes_is_known_without_reading_it_twice(text: str, found: list[str]) -> None:
    assert [one.text for one in included(text, file="models.yaml")] == found


def test_a_text_that_speaks_of_including_is_not_read() -> None:
    text = "a: please include this\n" * 200_000
    begin = time.process_time()

    assert included(text, file="models.yaml") == ()
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("/etc/a.yaml", "KI114"),
        ("~/a.yaml", "KI114"),
        ("../a.yaml", "KI114"),
        ("a/../../b.yaml", "KI114"),
        ("'**/a.yaml'", "KI105"),
        ("a\\b.yaml", "KI105"),
        ('"a\\nb.yaml"', "KI105"),
        ("12", "KI104"),
        ("[[a.yaml]]", "KI104"),
        ("{a.yaml: 1}", "KI104"),
    ],
)
def test_names_that_cannot_be_included_are_told(text: str, code: str) -> None:
    (problem,) = check_included(source(f"include: {text}\n"), [])

    assert (problem.code, problem.address) == (code, "include")


def test_patterns_without_file_are_told_whoever_was_to_read_them() -> None:
    root = source("include: [a.yaml, 'm/*.yaml', c.yaml]\n", "conf/models.yaml")

    assert check_included(root, ["conf/a.yaml", "conf/m/b.yaml", "conf/c.yaml"]) == ()
    assert spans(check_included(root, ["conf/a.yaml", "other/b.yaml"])) == [
        ("KI113", "conf/models.yaml:1:19"),
        ("KI113", "conf/models.yaml:1:31"),
    ]


def parsed(root: str, **parts: str) -> tuple[Parsed | None, Problems]:
    return parse(root, file="models.yaml", parts={f"models/{name}.yaml": text for name, text in parts.items()})


def test_models_of_several_files_are_one_config() -> None:
    found, told = parsed(INCLUDING + "purposes:" + PURPOSES, a=model("small", 8601), b=model("other", 8611))

    assert told == ()
    assert found is not None
    assert [one.id for one in found.config.models] == ["small", "other"]
    assert str(found.span(("models", 1, "context_tokens"))) == "models/b.yaml:5:21"


def test_problems_of_all_files_are_told_at_once() -> None:
    wrong = model("small", 8601).replace("cost_tier: low", "cost_tier: lo")
    found, told = parsed(INCLUDING + "bus: {managd: no}\n", a=wrong, b="models: [\n", c="# later\n")

    assert found is None
    assert spans(told) == [
        ("KI102", "models.yaml:14:7"),
        ("KI105", "models/a.yaml:6:16"),
        ("KI101", "models/b.yaml:1:10"),
        ("KI110", "models/c.yaml:1:1"),
    ]
    assert told[-1].severity is Severity.WARNING


def test_a_section_that_an_unread_file_may_hold_is_not_missed() -> None:
    assert spans(parsed(INCLUDING)[1]) == [("KI113", "models.yaml:2:10")]
    assert spans(parsed(INCLUDING, a="models: [\n")[1]) == [("KI101", "models/a.yaml:1:10")]
    assert spans(parsed(INCLUDING, a="bus: {}\n")[1]) == [("KI103", "models.yaml:1:1")]
    place = Span("models.yaml", 2, 10)
    assert parse(INCLUDING, file="models.yaml", unread={place}) == (None, ())


def test_what_follows_from_an_alias_without_anchor_is_not_told() -> None:
    _, told = parse(ROOT.replace("context_tokens: 2048", "context_tokens: *x"), file="models.yaml")
    assert [problem.code for problem in told] == ["KI115"]

    _, told = parse(ROOT.replace("    cost_tier: low\n", "    <<: *x\n"), file="models.yaml")
    assert [problem.code for problem in told] == ["KI115"]


@pytest.mark.parametrize("text", ["include:\nhosts: {}\n", "include: ~\nhosts: {}\n", "include: []\nhosts: {}\n"])
def test_including_nothing_is_no_problem(text: str) -> None:
    found, told = composed(text)

    assert (found.tree, told) == ({"hosts": {}}, ())


def test_an_anchor_of_another_file_is_said_to_be_there() -> None:
    root = INCLUDING + "x-calm: &calm {top_p: 0.9}\npersonas: *later\nx-later: &later []\n"
    _, told = parsed(root, a=f"x-later: &later []\nx-a: *calm\nx-b: *clam\n{model('small', 8601)}")
    line = root[: root.index("&calm")].count("\n") + 1

    assert [(str(problem.span), problem.hint) for problem in told if problem.code == "KI115"] == [
        (f"models.yaml:{line + 1}:11", f"&later comes only in line {line + 2}; move it above the alias."),
        (
            "models/a.yaml:2:6",
            f"Anchors work within one file, and this one stands in models.yaml:{line}: write the value out.",
        ),
        ("models/a.yaml:3:6", "Known here: later."),
    ]


def test_includes_are_told_even_where_the_root_cannot_be_read() -> None:
    _, told = parsed("include: [\n", a="models: {\n")

    assert [problem.code for problem in told] == ["KI101", "KI101"]


def test_a_warning_gives_way_to_an_error_at_its_place() -> None:
    _, told = parse(ROOT.replace('"8.6"', "086").replace("8601", "08601"), file="models.yaml")

    assert [problem.code for problem in told] == ["KI104", "KI118"]


def test_what_is_there_and_cannot_be_included_is_named_with_the_reason() -> None:
    problem = not_included(Span("models.yaml", 2, 11), "models/a.yaml", "is a folder")

    assert (problem.code, problem.detail) == ("KI113", '"models/a.yaml" is a folder.')
