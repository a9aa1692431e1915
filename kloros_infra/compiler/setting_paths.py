"""What a user asks for → a setting: `models.context_tokens`, `models[0].id` and `profiles.max.gpus` are understood."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.settings import Setting, Shape, children, sections, settings
from kloros_infra.compiler.spec_keys import foreign_hint
from kloros_infra.compiler.suggest import closest, suggest
from kloros_infra.diagnostics import Diagnostic, Problems

# Nearer than for a mere hint: a name of the user's own is no mistake for a setting.
_MISTAKEN = 0.75
_WORD = re.compile(r"[a-z][a-z_]*")
_INDEX = re.compile(r"\[.*\]|[0-9]+|\*")


def find_setting(asked: str) -> tuple[Setting | None, Problems]:
    """Find a setting by its path, with names, ids, indices or placeholders on the way, or without them."""
    words = re.findall(r"\[[^\]]*\]|[^.\[\]]+", asked)
    level, above = sections(), ""
    setting: Setting | None = None
    while words:
        setting = next((one for one in level if one.name == words[0]), None)
        if setting is None:
            return None, (_unknown(words[0], above, level),)
        above, level = setting.inside, children(setting)
        words = _behind_entry(setting, words[1:], level)
    return (setting, ()) if setting is not None else (None, (_unknown(asked, above, level),))


def _behind_entry(setting: Setting, words: Sequence[str], level: Sequence[Setting]) -> list[str]:
    """Leave out what names an entry of a mapping or an item of a list, up to the next setting."""
    names = {one.name for one in level}
    ahead = next((index for index, word in enumerate(words) if word in names), None)
    match setting.shape:
        case Shape.SECTION:
            return list(words)
        case Shape.VALUE:
            has_parts = setting.type_words.startswith("a mapping")
            return [] if has_parts or all(map(_INDEX.fullmatch, words)) else list(words)
        case _ if ahead is not None:
            return list(words[ahead:])
        case _:
            close = [word for word in words if closest(word, names, cutoff=_MISTAKEN)]
            return close or [word for word in words[-1:] if _is_meant(word, setting, is_alone=len(words) == 1)]


def _is_meant(word: str, setting: Setting, *, is_alone: bool) -> bool:
    """Say whether a word that is near no setting is meant as one; if not, it is a name or an id, or the end of one."""
    behind_id = setting.shape is Shape.LISTED and not is_alone and _WORD.fullmatch(word) is not None
    return behind_id or foreign_hint(word) is not None


def _unknown(word: str, above: str, level: Sequence[Setting]) -> Diagnostic:
    names = [one.name for one in level]
    elsewhere = [one.path for one in settings() if one.name == word] if not above else []
    if elsewhere:
        hint = f"There is {', '.join(elsewhere)}."
    elif names:
        hint = foreign_hint(word) or suggest(word, names)
    else:
        hint = f"`kloros-infra explain {above}` shows what it is."
    return Diagnostic(
        code="KI535",
        summary="Unknown setting",
        detail=f"{above or 'models.yaml'} has no setting `{printable(word)}`.",
        hint=hint,
    )
