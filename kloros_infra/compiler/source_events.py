"""YAML text → parser events, by libyaml or by PyYAML's own parser.

Both keep their own stack, so that depth costs memory and not the C stack; libyaml's *composer*, which is not used here,
recurses and ends the process on a few hundred kilobytes of `[`.

PyYAML comes without libyaml where there is neither a wheel nor libyaml's headers. What both accept means the same to
both, and for every case in the tests they stop at the same place. But PyYAML's parser takes twelve times as long, and
refuses (KI101) tabs between values, `?` in unquoted text within brackets, and a comment right after `|`; libyaml
refuses `{key:}` without a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Events = Callable[[str], Iterator[yaml.Event]]

_INVALID_CODE = "found invalid Unicode character escape code"  # libyaml's words (scanner.c)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)


def libyaml_events(text: str) -> Iterator[yaml.Event]:
    """Read by libyaml."""
    return yaml.parse(text, Loader=yaml.CSafeLoader)


def python_events(text: str) -> Iterator[yaml.Event]:
    """Read by PyYAML's own parser, and refuse the escapes that it forgets to check."""
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            event = loader.get_event()  # type: ignore[no-untyped-call]  # types-PyYAML leaves it open
            if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
                raise yaml.scanner.ScannerError(None, None, _INVALID_CODE, _surrogate_escape(text, event))
            yield event
    except (ValueError, OverflowError) as error:
        # chr() of more than U+10FFFF (scanner.py, scan_flow_scalar_non_spaces).
        raise yaml.scanner.ScannerError(None, None, _INVALID_CODE, loader.get_mark()) from error
    finally:
        loader.dispose()


def _surrogate_escape(text: str, event: yaml.ScalarEvent) -> yaml.Mark:
    """Find the escape of half a character; the text itself holds none."""
    start: Any = event.start_mark
    for found in _ESCAPES.finditer(text, start.index):
        if 0xD800 <= int(found[1] or found[2] or "0", 16) <= 0xDFFF:
            before = text[start.index : found.start()]
            line = start.line + before.count("\n")
            column = len(before) - before.rfind("\n") - 1 if "\n" in before else start.column + len(before)
            return yaml.Mark("", found.start(), line, column, None, 0)
    raise AssertionError("a text without surrogates has them from escapes only")


parser_events: Events = libyaml_events if yaml.__with_libyaml__ else python_events
