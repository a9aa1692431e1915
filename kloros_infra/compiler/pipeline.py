"""The whole of compile, station by station.

    text          → parse      → Parsed
    text, headers → parse_lock → Lock
    both          → resolve    → Catalog
    each instance → place      → Placement
    all of it     → emit       → ArtifactTree

A pass hands on a value and its problems. All problems of a pass are collected; errors stop the line at the joint
after it, so that no pass sees a value that is not whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from kloros_infra.compiler.emit import emit
from kloros_infra.compiler.emit_rpc import emit_parts
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.parse_lock import parse_lock
from kloros_infra.compiler.placing import located, place_all
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.stations import Sources
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Lock
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.rpc_server import HostPart
from kloros_infra.ir.written import NONCHARACTERS

Value = TypeVar("Value")

# Characters that stand for themselves wherever a prefix is written: in words of Exec*=, after specifiers are expanded,
# in EnvironmentFile= (which takes globs, systemd.exec(5)) and in the fields of tmpfiles.d(5).
PREFIX = re.compile(rf"""(/[^/\x00-\x20\x7f-\xa0\u2028\u2029{NONCHARACTERS}"'\\$%*?\[\]]+)*""")


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a models.yaml means: `tree` is for the local host, `parts` are for others; `warnings` did not stop it."""

    catalog: Catalog
    placements: Mapping[InstanceId, Placement]
    tree: ArtifactTree
    warnings: Problems
    parts: tuple[HostPart, ...] = ()


def compile_project(sources: Sources, templates: Mapping[str, str], *, layout: Layout) -> Compiled:
    """Compile a project; raise ProblemsError with all problems up to the joint at which there is an error."""
    stop_at_errors(check_prefix(layout.prefix))
    parsed, found = checked(parse(sources.text, file=sources.file, parts=sources.parts))
    lock, found = checked(read_lock(sources), found)
    catalog, found = checked(resolve(parsed, lock), found)
    placed, problems = place_all(catalog, overrider_records=sources.overrider_records)
    placements, found = checked((placed, located(problems, parsed, catalog)), found)
    tree = emit(catalog, placements, templates, layout)
    parts = emit_parts(catalog, placements, templates, layout)
    return Compiled(catalog, placements, tree, in_order(found), parts)


def checked(result: tuple[Value | None, Problems], before: Problems = ()) -> tuple[Value, Problems]:
    """Pass a joint: give the value and all problems so far, or raise ProblemsError."""
    value, problems = result
    found = (*before, *problems)
    stop_at_errors(found)
    if value is None:
        raise AssertionError("a pass without errors gives a value")
    return value, found


def stop_at_errors(problems: Iterable[Diagnostic]) -> None:
    """Raise ProblemsError if any problem is an error."""
    ordered = in_order(problems)
    if has_errors(ordered):
        raise ProblemsError(ordered)


def read_lock(sources: Sources) -> tuple[Lock | None, Problems]:
    """Read the lock; before the first `lock` it is empty, and resolve names what is missing from it."""
    if sources.lock_text is None:
        return Lock(weights={}), ()
    return parse_lock(sources.lock_text, sources.headers, file=sources.lock_file)


def check_prefix(prefix: str) -> Problems:
    """Say whether the texts of unit files can name paths below this folder."""
    return () if PREFIX.fullmatch(prefix) else (prefix_unusable(prefix),)


def prefix_unusable(prefix: str) -> Diagnostic:
    """Say that a root folder's name cannot be written into unit files."""
    return Diagnostic(
        code="KI590",
        summary="Root folder cannot be named in unit files",
        detail=f"The folder {prefix!r} is relative, ends in /, or holds a blank, a quote or one of $ % * ? [ ] \\.",
        hint="Give a root whose absolute path has none of these characters.",
    )
