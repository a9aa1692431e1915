"""Several files → one: `include`, and the `x-` keys that hold nothing but anchors.

The root's `include` names the other files. Lists (`models`, `personas`) follow one another in that order, the root's
own first; mappings are joined key by key, and no key may come from two files. Whoever reads the files learns the
patterns from `included`; here they are texts already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from kloros_infra.compiler import composition_problems as told
from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.source_builder import MAX_VALUES
from kloros_infra.compiler.source_nodes import ListNode, MappingNode, Mark, Node, Scalar, span_of
from kloros_infra.diagnostics import Diagnostic, Problems, Span

INCLUDE = "include"
VERSION = "version"
ASIDE = "x-"
"""What keys at the top begin with that hold anchors for the rest of their file, and nothing else."""
_WILDCARDS = frozenset("*?[")
# A key of its own, at the beginning of a line or in braces: the word alone may stand in any text.
_INCLUDE_KEY = re.compile(r"""(?:^|[{,?])[ \t]*["']?include["']?[ \t]*:""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class IncludePattern:
    """A name or pattern below `include`, relative to the root's folder; `*`, `?` and `[…]` stand within one name."""

    text: str
    span: Span

    @property
    def names(self) -> tuple[str, ...]:
        """Give the folders on the way, and the file last."""
        return tuple(name for name in self.text.split("/") if name not in ("", "."))

    def is_match(self, path: str) -> bool:
        """Say whether a file's path, from the root's folder, is meant."""
        names = path.split("/")
        return len(names) == len(self.names) and all(map(is_name_match, self.names, names))


def has_wildcard(pattern: str) -> bool:
    """Say whether one name of a pattern may stand for several."""
    return not _WILDCARDS.isdisjoint(pattern)


def is_name_match(pattern: str, name: str) -> bool:
    """Say whether one name of a path is meant; names that begin with a full stop must be written so."""
    if not has_wildcard(pattern):
        return pattern == name
    return fnmatchcase(name, pattern) and name.startswith(".") <= pattern.startswith(".")


def included(text: str, *, file: str) -> tuple[IncludePattern, ...]:
    """Give what a models.yaml includes; nothing where the text is wrong, for `parse` says how."""
    if not _INCLUDE_KEY.search(text):
        return ()
    root, _ = read(text, file=file)
    return () if root is None else patterns_of(root)[0]


def patterns_of(root: Source) -> tuple[tuple[IncludePattern, ...], Problems]:
    """Give what a root includes, as far as it may be included."""
    node = root.root.child(INCLUDE) if isinstance(root.root, MappingNode) else None
    if node is None or node.value is None:
        return (), ()
    patterns: list[IncludePattern] = []
    problems: list[Diagnostic] = []
    for one in node.children if isinstance(node, ListNode) else (node,):
        span = span_of(one.file, one.mark)
        if not isinstance(one.value, str):
            problems.append(told.pattern_not_text(span))
        elif (problem := _refusal(IncludePattern(one.value, span))) is not None:
            problems.append(problem)
        else:
            patterns.append(IncludePattern(one.value, span))
    return tuple(patterns), tuple(problems)


def _refusal(pattern: IncludePattern) -> Diagnostic | None:
    if pattern.text.startswith(("/", "~")):
        return told.leaves_folder(pattern.span, f"{pattern.text} does not begin there")
    if ".." in pattern.names:
        return told.leaves_folder(pattern.span, f"{pattern.text} goes up by `..`")
    if not pattern.text.isprintable() or re.search(r"\*\*|\\", pattern.text):
        return told.pattern_not_accepted(pattern.span, pattern.text)
    return None


def check_included(root: Source, names: Iterable[str]) -> Problems:
    """Find what is wrong with a root's `include`, given the names of the files that were read for it."""
    folder = root.file[: root.file.rfind("/") + 1]
    paths = [name.removeprefix(folder) for name in names]
    patterns, problems = patterns_of(root)
    without = (pattern for pattern in patterns if not any(map(pattern.is_match, paths)))
    return (*problems, *(told.not_found(pattern.span, pattern.text) for pattern in without))


def marked_elsewhere(problems: Problems, sources: Sequence[Source]) -> Iterator[Diagnostic]:
    """Say of anchors that nothing in a file marks where another file marks them."""
    marked = {name: span for source in reversed(sources) for name, span in source.anchors.items()}
    elsewhere = {
        span: marked[name]
        for source in sources
        for span, name in source.unknown.items()
        if name in marked and name not in source.anchors
    }
    for problem in problems:
        first = elsewhere.get(problem.span) if problem.span is not None else None
        yield problem if first is None else told.anchor_elsewhere(problem, first)


@dataclass(frozen=True, slots=True)
class _Section:
    """What a file says under one key at the top."""

    key: str
    mark: Mark
    node: Node

    @property
    def span(self) -> Span:
        return span_of(self.node.file, self.mark)


def compose(root: Source, parts: Sequence[Source]) -> tuple[Source, Problems]:
    """Join a root and what it includes; every value keeps the place in its own file."""
    if not isinstance(root.root, MappingNode):
        return root, ()
    problems = [problem for part in parts for problem in _check_part(part)]
    gathered = {section.key: [section] for section in _sections(root)}
    for section in (section for part in parts for section in _sections(part)):
        if section.key != VERSION or VERSION in gathered:
            gathered.setdefault(section.key, []).append(section)
    joined = [_join(sections) for sections in gathered.values()]
    problems += [problem for _, found in joined for problem in found]
    node = _mapping(root.root, [section for section, _ in joined])
    if node.values > MAX_VALUES:
        return root, (*problems, told.too_much(span_of(root.file, node.mark), MAX_VALUES))
    unread = root.unread.union(*(part.unread for part in parts))
    return Source(root.file, node, unread), tuple(problems)


def _check_part(part: Source) -> Problems:
    if not isinstance(part.root, MappingNode):
        return (told.part_not_mapping(span_of(part.file, part.root.mark)),)
    include = part.root.keys.get(INCLUDE)
    return () if include is None else (told.include_within(span_of(part.file, include)),)


def _sections(source: Source) -> list[_Section]:
    """Give what a file says about the machine: not what it sets aside or takes from elsewhere."""
    if not isinstance(source.root, MappingNode):
        return []
    kept = (key for key in source.root.keys if key != INCLUDE and not key.startswith(ASIDE))
    return [_Section(key, source.root.keys[key], source.root.children[key]) for key in kept]


def _join(sections: list[_Section]) -> tuple[_Section, Problems]:
    """Join what several files say under one key; one that says nothing there does not count."""
    sections = [section for section in sections if section.node.value is not None] or sections[:1]
    first, *others = sections
    lists = [section.node for section in sections if isinstance(section.node, ListNode)]
    if others and len(lists) == len(sections):
        return replace(first, node=_list(lists)), ()
    mappings = [section.node for section in sections if isinstance(section.node, MappingNode)]
    if others and len(mappings) == len(sections):
        return _join_mappings(first, mappings)
    return first, tuple(
        told.declared_twice(section.span, section.key, first.span)
        for section in others
        if section.key != VERSION or section.node.value != first.node.value
    )


def _join_mappings(section: _Section, mappings: list[MappingNode]) -> tuple[_Section, Problems]:
    entries: dict[str, _Section] = {}
    problems: list[Diagnostic] = []
    for mapping in mappings:
        for key, mark in mapping.keys.items():
            entry = _Section(key, mark, mapping.children[key])
            first = entries.setdefault(key, entry)
            if first is not entry:
                problems.append(told.declared_twice(entry.span, f"{section.key}.{key}", first.span))
    return replace(section, node=_mapping(mappings[0], list(entries.values()))), tuple(problems)


def _mapping(like: MappingNode, sections: list[_Section]) -> MappingNode:
    """Make a mapping of what was joined; it stands where the first of its parts stands."""
    nodes = [section.node for section in sections]
    return replace(
        like,
        values=1 + sum(1 if isinstance(node, Scalar) else node.values for node in nodes),
        value={section.key: section.node.value for section in sections},
        children={section.key: section.node for section in sections},
        keys={section.key: section.mark for section in sections},
    )


def _list(lists: list[ListNode]) -> ListNode:
    items = [item for one in lists for item in one.children]
    return replace(
        lists[0],
        values=sum(one.values for one in lists),
        value=[item.value for item in items],
        children=items,
    )
