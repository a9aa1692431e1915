"""Unified diffs of files: as `diff -u` writes them, without secrets, and harmless to a terminal."""

from __future__ import annotations

from kloros_infra.ir.artifact import Link, TextFile
from kloros_infra.ir.generation import Generation
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.diff import plan
from kloros_infra.planner.file_changes import Cause, FileChange
from kloros_infra.planner.generation_changes import content_of, manifest_of
from kloros_infra.planner.generation_diff import generation_changes, generation_text_diffs
from kloros_infra.planner.text_diff import plan_diffs, text_diffs
from tests.sites import LAYOUT, MiniModel, Site, converged


def diff_of(before: TextFile | Link | None, after: TextFile | Link | None) -> tuple[str, ...]:
    return text_diffs([FileChange("x", before, after, Cause.CONFIGURED)])


def test_new_and_removed_files_are_compared_with_nothing() -> None:
    assert diff_of(None, TextFile("a\n")) == ("--- /dev/null", "+++ b/x", "@@ -0,0 +1 @@", "+a")
    assert diff_of(TextFile("a\n"), None) == ("--- a/x", "+++ /dev/null", "@@ -1 +0,0 @@", "-a")


def test_modes_and_links_are_lines() -> None:
    assert diff_of(TextFile("a\n"), TextFile("a\n", 0o755))[-2:] == ("+mode 0755", " a")
    assert diff_of(Link("one"), Link("two\x1b"))[-2:] == ("-link to one", "+link to two\\x1b")


def test_secrets_and_control_characters_are_not_shown() -> None:
    lines = diff_of(TextFile("API_KEY=one\n"), TextFile("API_KEY=two\nA=\x1b[31m\n"))
    assert "one" not in "".join(lines)
    assert "two" not in "".join(lines)
    assert "+A=\\x1b[31m" in lines


def test_a_plan_has_the_diffs_of_its_files() -> None:
    before, after = Site().desired(), Site(router_memory="1G").desired()
    observed = converged(before)
    assert plan_diffs(before, observed) == ()
    lines = plan_diffs(after, observed)
    assert "+MemoryMax=1G" in lines
    assert plan(after, observed)[0].changes


def generation(desired: Desired, number: int) -> Generation:
    return Generation(manifest_of(desired, number), content_of(desired))


def test_generations_are_compared_as_a_plan_would() -> None:
    first = generation(Site().desired(), 1)
    second = generation(Site(models=(MiniModel("code", {"max": 8601}, context=9000),)).desired(), 2)
    found = {change.address: change.action for change in generation_changes(first, second, LAYOUT)}
    assert found["instance.code-max"] == "update"
    assert found["instance.chat-max"] == "delete"
    assert generation_changes(first, first, LAYOUT) == ()
    assert "+LLAMA_ARG_CTX_SIZE='9000'" in generation_text_diffs(first, second, LAYOUT)
    assert generation_text_diffs(second, second, LAYOUT) == ()
