"""Settings → docs/language.md: every setting in a table, section by section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kloros_infra.compiler.reference import PRECEDENCE
from kloros_infra.compiler.settings import NOT_ACTED_ON, PLACES, Setting, Shape, children, sections
from kloros_infra.compiler.type_words import BRIEF
from kloros_infra.compiler.yaml_lines import flow_text
from kloros_infra.ir.written import BYTE_UNITS, DURATION_UNITS, MEANINGS

INTRODUCTION = """\
<!-- Written by `kloros-infra explain --markdown` – do not edit. -->
# The language of models.yaml

Every setting, from the declarations that the parser reads. [models-yaml.md](models-yaml.md) is the guide,
`kloros-infra explain models.context_tokens` shows one setting in the terminal, and
[models.schema.json](../schema/models.schema.json) tells editors.

`<host>` stands for a name of your own, `[]` for each item of a list. A setting that may be left out may also be
`null`, which says the same. Keys at the top that begin with `x-` are read by nobody: they are a place for values that
anchors mark.
"""

BAR = r"\|"
HEADING = "| setting | type | default | what it does |\n|---|---|---|---|"


def language_page() -> str:
    """Write the reference as Markdown."""
    top = sections()
    blocks = [INTRODUCTION, f"## Sections\n\n{_table(top)}\n"]
    for section in top:
        blocks += _section_blocks(section, "##")
    return "\n".join((*blocks, _forms()))


def _section_blocks(setting: Setting, level: str) -> Iterator[str]:
    """Write a section and the sections within it; a value has its row where it is listed."""
    below = children(setting)
    if not below:
        return
    shared = [one for one in below if one.is_inherited]
    is_first = setting.inside == PLACES[0]
    yield f"{level} `{setting.inside}`\n"
    yield f"{_doc(setting)}\n"
    yield f"{_table([one for one in below if is_first or one not in shared])}\n"
    if shared:
        names = ", ".join(f"`{one.name}`" for one in shared)
        yield f"Each of {names} {PRECEDENCE}\n" if is_first else f"Also, as in [`defaults`](#defaults): {names}.\n"
    for one in below:
        yield from _section_blocks(one, "###")


def _table(rows: Sequence[Setting]) -> str:
    return "\n".join((HEADING, *map(_row, rows)))


def _row(setting: Setting) -> str:
    default = "**required**" if setting.is_required else setting.default_words
    cells = (f"`{setting.name}`", setting.brief_type, default, _doc(setting) + _example(setting))
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def _doc(setting: Setting) -> str:
    """Give what a setting does; outside of code, `<` would begin a tag."""
    parts = setting.doc.split("`")
    doc = "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))
    return doc if setting.is_acted_on else f"{doc} *{NOT_ACTED_ON}*"


def _example(setting: Setting) -> str:
    """Give an example where the type does not say already how the value looks."""
    if setting.shape is not Shape.VALUE or setting.type_words.startswith(("true", "one of")):
        return ""
    text = flow_text(setting.example)
    fence = "``" if "`" in text else "`"
    return f" Example: {fence}{text}{fence}."


def _forms() -> str:
    """Say once what the tables call by a short name."""
    forms = sorted(words for pattern, words in MEANINGS.items() if BRIEF[pattern] != words)
    units = f"- units of memory: {', '.join(BYTE_UNITS)}; of time: {', '.join(DURATION_UNITS)}"
    return "\n".join(("## Forms\n", *(f"- {words}" for words in forms), units, ""))
