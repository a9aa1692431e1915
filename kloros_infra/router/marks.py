"""Tell the purpose of a request that names none by what it looks like (`when` of a purpose in models.yaml)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from kloros_infra.ir.catalog import ModelKind
from kloros_infra.ir.requests import Mark
from kloros_infra.ir.routing import RoutedClient, RoutedPurpose, RoutingTable
from kloros_infra.router.clients import may_use_purpose
from kloros_infra.router.meaning import is_known
from kloros_infra.router.query import Query


class Traits(NamedTuple):
    """What a request looks like; `last_message` is its text, `model` what it asked for, known or not."""

    last_message: str = ""
    model: str | None = None
    source: str | None = None
    kind: ModelKind = ModelKind.CHAT
    has_images: bool = False
    has_tools: bool = False
    tokens: int = 0


def has_marks(table: RoutingTable) -> bool:
    """Say whether any purpose can be told by marks: where none can, nobody need gather traits."""
    return any(purpose.marks for purpose in table.purposes)


def by_marks(table: RoutingTable, query: Query, traits: Traits, client: RoutedClient | None = None) -> Query:
    """Fill in the purpose of a query that names neither purpose nor persona, and no model that the table knows.

    A model that the table does not know, such as one of a cloud service, gives way where a mark is borne.
    """
    if query.purpose is not None or query.persona is not None:
        return query
    if query.model is not None and is_known(table, query.model):
        return query
    allowed = [purpose for purpose in table.purposes if may_use_purpose(client, purpose.name)]
    found = purpose_by_marks(allowed, traits)
    if found is None:
        return query
    name, words = found
    return query._replace(purpose=name, model=None, by_mark=words)


def purpose_by_marks(purposes: Sequence[RoutedPurpose], traits: Traits) -> tuple[str, str] | None:
    """Give the first purpose of which a mark is borne, and that mark in words."""
    for purpose in purposes:
        for mark in purpose.marks:
            words = _borne(mark, traits)
            if words is not None:
                return purpose.name, words
    return None


def _borne(mark: Mark, traits: Traits) -> str | None:
    """Say in words how a mark is borne, None where it is not."""
    conditions = [(is_met, words) for is_met, words in _conditions(mark, traits)]
    if not conditions or not all(is_met for is_met, _ in conditions):
        return None
    return " and ".join(words for _, words in conditions)


def _conditions(mark: Mark, traits: Traits) -> Iterator[tuple[bool, str]]:
    if mark.contains:
        held = next((text for text in mark.contains if text in traits.last_message), None)
        yield held is not None, f"its last message has {held!r}"
    if mark.model is not None:
        asked = (traits.model or "").removesuffix(":latest").lower()
        yield fnmatchcase(asked, mark.model.lower()), f"it asks for a model like '{mark.model}'"
    if mark.sources:
        yield traits.source in mark.sources, f"it comes from '{traits.source}'"
    if mark.kind is not None:
        yield traits.kind is mark.kind, f"it is of kind {mark.kind}"
    if mark.has_images is not None:
        yield traits.has_images is mark.has_images, _carries("images", is_so=mark.has_images)
    if mark.has_tools is not None:
        yield traits.has_tools is mark.has_tools, _carries("tools", is_so=mark.has_tools)
    if mark.min_tokens is not None:
        yield traits.tokens >= mark.min_tokens, f"it has {mark.min_tokens} tokens or more"


def _carries(what: str, *, is_so: bool) -> str:
    return f"it carries {what}" if is_so else f"it carries no {what}"
