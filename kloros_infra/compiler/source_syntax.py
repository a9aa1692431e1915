"""What a YAML parser says when it stops → a diagnostic in words of our own (KI101; KI107 for tags).

libyaml and PyYAML's own parser are one design in two languages: they stop at the same places and differ in words, so a
rule names what either says (libyaml's scanner.c and parser.c; PyYAML's scanner.py and parser.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from kloros_infra.compiler import source_problems
from kloros_infra.compiler.printable import printable
from kloros_infra.compiler.source_encoding import place_after
from kloros_infra.compiler.source_nodes import span_of
from kloros_infra.diagnostics import Diagnostic, Problems, Span


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a message is told in which `said` is found.

    `{line}` is where the parser's context begins, `{character}` what stands where it stopped.
    """

    said: str
    detail: str
    hint: str
    is_at_context: bool = False


_LOOK_AROUND = "Check indentation, colons, quotes and brackets here and in the line before."
_RULES = (
    _Rule("cannot start any token", "A value cannot begin with {character}.", "Put the text in quotes."),
    _Rule(
        "mapping values are not allowed",
        "A colon with a space after it stands where no key can be.",
        "Check the indentation; put text that contains a colon and a space in quotes.",
    ),
    _Rule(
        "found unexpected ':'",
        "A colon without a space after it stands before a bracket or comma.",
        "Write a value after the colon, or leave the key out.",
    ),
    _Rule(
        "could not find expected ':'",
        "This stands where a key must be, and has no colon.",
        "Write `key: value`, with a space after the colon.",
        is_at_context=True,
    ),
    _Rule(
        "sequence entries are not allowed",
        "An item of a list stands where no list can begin.",
        "Begin the list on a line of its own; put text that begins with a hyphen and a space in quotes.",
    ),
    _Rule(
        "mapping keys are not allowed",
        "A question mark with a space after it stands where no key can be.",
        "Put text that begins with a question mark and a space in quotes.",
    ),
    _Rule(
        "scanning an (alias|anchor)",
        "A name must follow * and &, of letters, digits, hyphens and underscores.",
        "Put text that begins with * or & in quotes.",
        is_at_context=True,
    ),
    _Rule(
        "scanning a block scalar",
        "After | and > only +, -, a digit from 1 to 9 and a comment may stand.",
        "Begin the text on the next line, indented.",
        is_at_context=True,
    ),
    _Rule(
        "document (indicator|separator)",
        "Quoted text cannot have a line that begins with --- or with three full stops.",
        "Close the quote before it, or indent the line.",
    ),
    _Rule(
        "end of stream",
        "The quote that is opened here is never closed.",
        "Close it; write a quote within single quotes twice.",
        is_at_context=True,
    ),
    _Rule(
        r"expected ',' or",
        "A comma or the closing bracket is missing before this place; the bracket is opened in line {line}.",
        "Close the bracket, or put a comma between what is in it.",
    ),
    _Rule(
        "node content",
        "Something is missing here: a value, or what a comma or bracket closes.",
        _LOOK_AROUND,
    ),
    _Rule(
        "parsing a block mapping",
        "What stands here does not fit into the mapping that begins in line {line}.",
        _LOOK_AROUND,
    ),
    _Rule(
        "parsing a block collection",
        "What stands here does not fit into the list that begins in line {line}.",
        _LOOK_AROUND,
    ),
)
_TAB = _Rule("", "A tab stands where only spaces may be.", "Indent with spaces.")
_NEVER_CLOSED = _Rule("", "The bracket that is opened here is never closed.", "Close the bracket.", is_at_context=True)
_ENDS_EARLY = _Rule("", "The file ends here, where a value must follow.", "Write it, and close all brackets before.")
_BEYOND_QUOTE = _Rule(
    "",
    "Quoted text ends before this place.",
    """Write a quote within single quotes twice, one within double quotes as \\".""",
)
_ANY = _Rule("", "The text breaks a rule of YAML here.", _LOOK_AROUND)
_TAG = re.compile(r"(scanning|parsing) a tag|tag handle")
_ESCAPE = re.compile(r"escape|hexdecimal")
_WRITTEN_ESCAPE = re.compile(r"\\(.[0-9a-fA-F]{0,8})?")
# What may come before a file's value: blank lines, comments and directives (https://yaml.org/spec/1.2.2/#681-yaml-directives).
_HEAD = re.compile(r"(?>(?:[ \t]*+(?:#[^\r\n]*+)?|%[^\r\n]*+)(?:\r?\n|\Z))*+")
_DIRECTIVE = re.compile(r"^%[^\r\n]*", re.MULTILINE)
_YAML_1_2 = re.compile(r"%YAML[ \t]+1\.2[ \t]*(#.*)?")
MAX_DIRECTIVES_TOLD = 20
_AFTER_QUOTE = re.compile(r"""['"][ \t]*\Z""")
_WHOLE_CHARACTER = "Write the character itself, or its \\U escape of eight digits."
_PLAIN_BACKSLASH = "Write \\\\ for a backslash, or use single quotes, in which it is a plain character."
MAX_LINE_TOLD = 100
# Possessive, so that many # in a line cost no more than one.
_NOTHING = re.compile(r"(?>\s+|#[^\n]*+|\.\.\.(?=\s|\Z))*+")


def syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Diagnostic:
    """Say where reading had to stop; for something never closed, where it was opened."""
    at: Any = error.problem_mark
    context: Any = error.context_mark or at
    said = f"{error.context}: {error.problem}"
    if _TAG.search(said):
        return source_problems.tag(span_of(file, context), _line_at(text, context.index).split()[0])
    if _ESCAPE.search(said):
        return _escape(file, text, at)
    rule = _rule(said, text, at.index)
    span = span_of(file, context) if rule.is_at_context else _span(file, text, at)
    character = printable(text[at.index : at.index + 1])
    return _stopped(span, rule.detail.format(line=context.line + 1, character=character), rule.hint)


def _span(file: str, text: str, at: Any) -> Span:
    """Give a place in the text: libyaml counts a line more at the end of a file, whether there is one or not."""
    return span_of(file, at) if at.index < len(text) else place_after(file, text.rstrip())


def _rule(said: str, text: str, index: int) -> _Rule:
    """Choose by what stands at the place first: there the parsers' words differ most."""
    if text.startswith("\t", index):
        return _TAB
    if next_content(text, index) == len(text) and re.search("expected ',' or|node content", said):
        return _NEVER_CLOSED if "expected ',' or" in said else _ENDS_EARLY
    if "parsing a block" in said and _AFTER_QUOTE.search(text, max(0, index - 80), index):
        return _BEYOND_QUOTE
    return next((rule for rule in _RULES if re.search(rule.said, said)), _ANY)


def _escape(file: str, text: str, at: Any) -> Diagnostic:
    """Point at the backslash: the parsers stop at it, or after the letter that follows it."""
    start = text.rindex("\\", 0, at.index + 1)
    escape = _WRITTEN_ESCAPE.match(text, start)
    span = Span(file, at.line + 1, at.column + 1 - (at.index - start))
    detail = f"The escape {printable(escape[0]) if escape else ''} stands for no character."
    is_half = re.match(r"\\[uU](0000)?[dD][89a-fA-F]", text[start : start + 8]) is not None
    return _stopped(span, detail, _WHOLE_CHARACTER if is_half else _PLAIN_BACKSLASH)


def next_content(text: str, index: int) -> int:
    """Find what comes after blanks, comments and the mark of a document's end."""
    nothing = _NOTHING.match(text, index)
    return nothing.end() if nothing else index


def beyond_the_end(span: Span, text: str, index: int) -> Diagnostic:
    """Say that something follows the one value of a file."""
    if text.startswith("---", index):
        return source_problems.second_document(span)
    if text.startswith("%", index):
        return source_problems.directive(span, _line_at(text, index))
    return _stopped(span, "The file's value is complete before this place.", _LOOK_AROUND)


def without_directives(text: str, *, file: str) -> tuple[str, Problems]:
    """Make the one directive that changes nothing a comment, and refuse all others before a parser has to read them.

    libyaml compares each %TAG with all before it, which takes hours for a file of them.
    """
    head = _HEAD.match(text)
    if head is None or "%" not in head[0]:
        return text, ()
    found = list(_DIRECTIVE.finditer(head[0]))
    problems = tuple(
        source_problems.directive(place_after(file, text[: one.start()]), one[0])
        for one in found[:MAX_DIRECTIVES_TOLD]
        if not _YAML_1_2.fullmatch(one[0])
    )
    return _DIRECTIVE.sub(lambda one: f"#{one[0][1:]}", head[0]) + text[head.end() :], problems


def _line_at(text: str, index: int) -> str:
    return text[index : index + MAX_LINE_TOLD].splitlines()[0]


def _stopped(span: Span, detail: str, hint: str) -> Diagnostic:
    return Diagnostic(code="KI101", summary="Not valid YAML", detail=detail, hint=hint, span=span)
