"""The folders of tests/cases/emit: a models.yaml, perhaps a `prefix`, and the tree expected of it.

`python -m tests.emit_cases` writes the expected trees anew; the review of its diff is the test of a wanted change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kloros_infra.adapters.generated_folder import update_folder
from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.emit_rpc import emit_parts, with_parts
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.rendering import rendering
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.shared_instances import share_instances
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from tests.factories import a_lock_for

EMIT_CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "emit").glob("*/models.yaml"))


def case_catalog(case: Path) -> Catalog:
    """Resolve a case with a lock that fits it: every model has the header of a 7B."""
    parsed, _ = checked(parse((case / "models.yaml").read_text("utf-8"), file="models.yaml"))
    return checked(resolve(parsed, a_lock_for(parsed.config)))[0]


def case_layout(case: Path) -> Layout:
    """Say where a case is installed."""
    prefix = case / "prefix"
    return Layout(prefix=prefix.read_text("utf-8").strip() if prefix.exists() else "")


def placed_case(case: Path) -> tuple[Catalog, Mapping[InstanceId, Placement]]:
    """Place a case's instances, and find those that are one."""
    catalog = case_catalog(case)
    placements, _ = checked(place_all(catalog))
    return share_instances(catalog, placements, rendering(read_templates(), case_layout(case))), placements


def compile_case(case: Path) -> ArtifactTree:
    """Emit a case's tree."""
    catalog, placements = placed_case(case)
    layout, templates = case_layout(case), read_templates()
    parts = emit_parts(catalog, placements, templates, layout)
    return with_parts(emit(catalog, placements, templates, layout), parts)


if __name__ == "__main__":
    for each in EMIT_CASES:
        update_folder(each / "expected", compile_case(each))
