"""Read a request body as one strict JSON object.

The bytes that were checked are the bytes that are forwarded, so both readers must see the same
value: a repeated key, of which Python keeps the last and another reader the first, is refused, and
so is everything that RFC 8259 does not know (NaN, Infinity, lone surrogates, a byte order mark).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from pydantic_core import from_json

from kloros_infra.daemon import http_problems
from kloros_infra.diagnostics import Diagnostic

WHITESPACE = " \t\r\n"
# Fewer brackets than this cannot nest deeper than jiter, pydantic's JSON reader, allows (200).
CAREFUL_FROM_BRACKETS = 150


def parse_object(data: bytes) -> dict[str, Any] | Diagnostic:
    """Read the object, or say why it is none."""
    try:
        text = data.decode()
        if "\\u" in text or text.count("[") + text.count("{") > CAREFUL_FROM_BRACKETS:
            # jiter refuses lone surrogates and deep nesting, which Python's reader lets through.
            from_json(data, allow_inf_nan=False)
        text = text.strip(WHITESPACE)
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            return http_problems.not_json(f"something follows it at character {end + 1}")
    except ValueError as error:
        return http_problems.not_json(_reason(error) if data else "it is empty")
    if not isinstance(value, dict):
        return http_problems.not_json(f"found {_kind(value)}")
    return value


def dump(value: Any) -> bytes:
    """Write compact JSON in UTF-8: Ollama's callers grep for `"name":"` without a space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    return str(error)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{repeated}' appears twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_number)
