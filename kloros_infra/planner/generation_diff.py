"""What differs between two generations: as changes, in the words of a plan, and as text diffs of their files."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.generation import Generation
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed, Observed
from kloros_infra.ir.plan import Change
from kloros_infra.planner.changes import changes
from kloros_infra.planner.comparison import Comparison
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.file_changes import file_changes, installed_tree
from kloros_infra.planner.text_diff import text_diffs


def generation_tree(generation: Generation, layout: Layout) -> Mapping[str, Artifact]:
    """Give all files of a generation where they lie while it is current."""
    content = {layout.content_path(name): artifact for name, artifact in generation.files.items()}
    return {**content, **generation.manifest.fixed}


def generation_changes(before: Generation, after: Generation, layout: Layout) -> tuple[Change, ...]:
    """List what going from one generation to the other changes in files; no machine is looked at."""
    return changes(_comparison(before, after, layout), {}, (), ())


def generation_text_diffs(before: Generation, after: Generation, layout: Layout) -> tuple[str, ...]:
    """Write unified diffs of the files that differ."""
    return text_diffs(_comparison(before, after, layout).files.values())


def _comparison(before: Generation, after: Generation, layout: Layout) -> Comparison:
    old = generation_tree(before, layout)
    observed = Observed(files=old, installed=Installed(installed_tree(old)), weights={}, units={})
    desired = Desired(
        generation_tree(after, layout), layout, profile=after.manifest.profile, units=after.manifest.units
    )
    return Comparison(desired, observed, file_changes(desired, observed), frozenset(), frozenset())
