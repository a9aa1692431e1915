"""`why UNIT[:KEY]`: join the directives of a generated unit with their rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kloros_infra.cli.project import Project
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.origins import Origins, Reason
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import ArtifactTree, text_of
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import instance_of
from kloros_infra.ir.unit_keys import unit_keys
from kloros_infra.planner.definitions import environment
from kloros_infra.planner.desired import Desired
from kloros_infra.planner.redaction import redacted_value
from kloros_infra.planner.selection import unknown_name


def unit_asked_for(name: str, tree: ArtifactTree, layout: Layout) -> str:
    """Find a unit by its name, or an instance's; raise ProblemsError when nothing is called so."""
    units = {unit: unit for path in tree if (unit := layout.unit_at(path)) is not None}
    names = {**units, **{instance_of(unit): unit for unit in units}}
    if name not in names:
        raise ProblemsError([unknown_name(name, names, kind="unit or instance")])
    return names[name]


def reasons(project: Project, compiled: Compiled, asked: str) -> tuple[str, tuple[Reason, ...]]:
    """Give a unit's name and why each of its directives, or the one that was asked for, is there."""
    name, _, key = asked.partition(":")
    layout = Layout()
    tree = {path: artifact for part in compiled.parts for path, artifact in part.tree.items()} | dict(compiled.tree)
    shared = {one: each.unit for each in compiled.catalog.instances for one in (str(each.id), each.id.unit)}
    unit = unit_asked_for(shared.get(name, name), tree, layout)
    parsed, _ = checked(parse(project.text, file=str(project.file), parts=project.parts))
    values = _values(unit, tree, layout)
    keys = [one for one in values if not key or key in (one, one.rpartition(".")[2])]
    if not keys:
        raise ProblemsError(
            [unknown_name(key, (*values, *(one.rpartition(".")[2] for one in values)), kind="directive")]
        )
    origins = Origins(parsed, compiled.catalog)
    found = (origins.reason(unit, one, redacted_value(one, values[one])) for one in keys)
    return unit, tuple(reason for reason in found if reason is not None)


def _values(unit: str, tree: ArtifactTree, layout: Layout) -> Mapping[str, str]:
    """Read a unit's directives and its variables."""
    text = text_of(tree[layout.unit_path(unit)])
    variables = environment(unit, tree, Desired(tree, layout, profile=""))
    return {**unit_keys(text), **variables}


def reason_lines(unit: str, reason: Reason) -> Iterator[str]:
    """Write one directive: its value, the settings behind it, the rule."""
    values = reason.value.split("\n")
    yield f"{unit}:{reason.key} = {values[0]}"
    yield from (f"    {value}" for value in values[1:])
    for setting in reason.settings:
        yield f"  from {setting.path}: {setting.value}  ({setting.origin})"
    source = f"  [{reason.rule.source}]" if reason.rule.source else ""
    yield f"  rule: {reason.rule.why}{source}"
