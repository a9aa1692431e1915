"""Compile with what earlier compiles kept; where they kept all of it, the compiler itself is not even imported."""

from __future__ import annotations

from collections.abc import Mapping

from kloros_infra.compiler.compile_cache import CompileCache
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.shelf import Shelf, digests_of
from kloros_infra.compiler.sources import Sources
from kloros_infra.ir.layout import Layout


def compile_cached(
    sources: Sources, templates: Mapping[str, str], *, layout: Layout, cache: CompileCache | None
) -> Compiled:
    """Give what `compile_project` would give, or raise what it would."""
    shelf = Shelf(cache, digests_of(sources, templates, layout), layout.prefix)
    compiled = shelf.whole()
    if compiled is not None:
        return compiled
    from kloros_infra.compiler.pipeline import compile_with  # noqa: PLC0415 - importing it takes as long as a compile

    return compile_with(shelf, sources, templates, layout)
