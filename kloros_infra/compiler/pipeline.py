"""The whole of compile, station by station.

    text          → parse      → Parsed
    text, headers → parse_lock → Lock
    both          → resolve    → Catalog
    each instance → place      → Placement
    all of them   → share      → Catalog, where equal instances of several profiles are one
    all of it     → emit       → ArtifactTree

What an earlier compile worked out is taken over where everything that it depends on is as it was (`compiler.shelf`).
A pass hands on a value and its problems. All problems of a pass are collected; errors stop the line at the joint
after it, so that no pass sees a value that is not whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.detected import with_detected
from kloros_infra.compiler.emit import emit_instances, emit_tree
from kloros_infra.compiler.emit_rpc import emit_parts
from kloros_infra.compiler.kept_instances import InstanceTexts, KeptInstances, Known, KnownAnswers
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.parse_lock import parse_lock
from kloros_infra.compiler.placing import located, place_all
from kloros_infra.compiler.rendering import Rendering, rendering
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.shared_instances import share_instances
from kloros_infra.compiler.shelf import Shelf, digests_of
from kloros_infra.compiler.sources import Sources
from kloros_infra.compiler.surroundings import surroundings
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import ArtifactTree
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import Lock
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.written import NONCHARACTERS

Value = TypeVar("Value")

# Characters that stand for themselves wherever a prefix is written: in words of Exec*=, after specifiers are expanded,
# in EnvironmentFile= (which takes globs, systemd.exec(5)) and in the fields of tmpfiles.d(5).
PREFIX = re.compile(rf"""(/[^/\x00-\x20\x7f-\xa0\u2028\u2029{NONCHARACTERS}"'\\$%*?\[\]]+)*""")


def compile_project(sources: Sources, templates: Mapping[str, str], *, layout: Layout) -> Compiled:
    """Compile a project; raise ProblemsError with all problems up to the joint at which there is an error."""
    return compile_with(Shelf(None, digests_of(sources, templates, layout), layout.prefix), sources, templates, layout)


def compile_with(shelf: Shelf, sources: Sources, templates: Mapping[str, str], layout: Layout) -> Compiled:
    """Compile a project with what a shelf has of it, and keep the results there."""
    stop_at_errors(check_prefix(layout.prefix))
    parsed, found = checked(parse(sources.text, file=sources.file, parts=sources.parts))
    parsed = with_detected(parsed, sources.detected)
    lock, found = checked((shelf.lock, ()) if shelf.lock else read_lock(sources), found)
    catalog, found = checked(resolve(parsed, lock), found)
    known = shelf.known(catalog)
    answers = KnownAnswers(known)
    placed, problems = place_all(catalog, overrider_records=sources.overrider_records, answers=answers)
    placements, found = checked((placed, located(problems, parsed, catalog)), found)
    prepared = rendering(templates, layout)
    catalog = share_instances(catalog, placements, prepared)
    texts, tree = _emit(catalog, placements, known, prepared)
    compiled = Compiled(catalog, placements, tree, in_order(found), emit_parts(catalog, placements, templates, layout))
    if known.digests:
        has_changed = answers.has_changed or not texts.keys() <= known.kept.texts.keys()
        shelf.keep(compiled, lock, KeptInstances(answers.outcomes, texts) if has_changed else None)
    return compiled


def _emit(
    catalog: Catalog, placements: Mapping[InstanceId, Placement], known: Known, prepared: Rendering
) -> tuple[dict[str, InstanceTexts], ArtifactTree]:
    """Write all files, and give what there is to keep of instances."""
    around = surroundings(catalog, placements)
    digests = known.text_digests(around, placements)
    kept = {one: known.kept.texts[digest] for one, digest in digests.items() if digest in known.kept.texts}
    texts = emit_instances(catalog, placements, around, prepared, kept)
    return {digests[one]: texts[one] for one in digests}, emit_tree(catalog, placements, texts, prepared)


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
