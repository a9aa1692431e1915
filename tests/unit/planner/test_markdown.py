"""Markdown says what the terminal says, and cannot be broken by a value."""

from __future__ import annotations

from kloros_infra.ir.plan import Action, Change, KeyChange, Plan
from kloros_infra.planner.diff import plan
from kloros_infra.planner.explain import explain
from kloros_infra.planner.markdown import WIDTH, matrix_markdown, plan_markdown
from kloros_infra.planner.matrix import MatrixRow
from kloros_infra.planner.summary import NOTHING, NOTHING_CHOSEN, summary_lines
from tests.sites import Site, converged, fresh

GITHUB_HOLDS = 65_536


def a_plan() -> Plan:
    return plan(Site(llama_server="/other").desired(), converged(Site().desired()))[0]


def test_a_plan_shows_its_summary_and_folds_the_same_words() -> None:
    made = a_plan()
    text = plan_markdown(made, ())
    lines = text.splitlines()
    assert lines[0] == f"**{summary_lines(made)[0]}**"
    assert "<details><summary>The whole plan</summary>" in lines
    words = " ".join(text.split())
    for line in explain(made, (), width=WIDTH, color=False):
        assert " ".join(line.split()).lstrip("-/+~ ") in words


def test_symbols_stand_first_for_github_to_colour() -> None:
    keys = (KeyChange("a", None, "1"), KeyChange("b", "1", None), KeyChange("c", "1", "2"))
    made = Plan((Change("instance.x", Action.REPLACE, "so", keys), Change("file.y", Action.CREATE, "so")), ())
    lines = plan_markdown(made, ()).splitlines()
    assert "-/+ instance.x" in lines
    assert [line[0] for line in lines if line.endswith((" a: 1", " b: 1", " c: 1 -> 2"))] == ["+", "-", "!"]
    assert "+   file.y" in lines


def test_nothing_to_do_is_one_line() -> None:
    assert plan_markdown(Plan((), ()), ()) == f"**{NOTHING}**\n"
    folded = plan_markdown(Plan((), (), only=("instance.x",)), ())
    assert folded.startswith(f"**{NOTHING_CHOSEN}**\n\n<details>"), "with the warning that the plan is not whole"


def test_a_value_with_backticks_does_not_end_the_block() -> None:
    made = Plan((Change("file.x", Action.UPDATE, "so", (KeyChange("a", "````", None),)),), ())
    assert "`````diff" in plan_markdown(made, ())


def test_a_long_plan_is_cut_with_a_word_on_it() -> None:
    changes = tuple(Change(f"file.{number}", Action.CREATE, "x" * 200) for number in range(1000))
    for diffs in ((), ("+" + "y" * 100,) * 2000, ("`" * 1000,) * 100):
        text = plan_markdown(Plan(changes, ()), (), diffs=diffs)
        assert GITHUB_HOLDS - 9000 < len(text) < GITHUB_HOLDS
        assert text.count("more lines; `kloros-infra plan` shows them") == 1 + bool(diffs)
        assert text.count("<details>") == text.count("</details>") == 1 + bool(diffs)


def test_diffs_have_what_a_short_plan_leaves() -> None:
    text = plan_markdown(Plan((Change("file.x", Action.CREATE, "so"),), ()), (), diffs=("+" + "y" * 100,) * 2000)
    assert GITHUB_HOLDS - 1000 < len(text) < GITHUB_HOLDS


def test_diffs_are_folded_by_themselves() -> None:
    desired = Site().desired()
    text = plan_markdown(plan(desired, fresh(desired))[0], (), diffs=("--- a", "+++ b"))
    assert "<details><summary>Files</summary>\n\n```diff\n--- a\n+++ b\n```" in text


def test_a_matrix_is_a_table() -> None:
    text = matrix_markdown([MatrixRow(("a",), (), "max", ("code-max",), (), ())])
    assert text.splitlines() == [
        "| GPUS PRESENT | PROFILE | INSTANCES | GPU MEMORY |",
        "| --- | --- | --- | --- |",
        "| a | max | code-max | none |",
    ]
