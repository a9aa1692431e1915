"""Read a request body as one strict JSON object.

The bytes that were checked are the bytes that are forwarded, so both readers must see the same
value: a repeated key, of which Python keeps the last and another reader the first, is refused, and
so is everything that RFC 8259 does not know (NaN, Infinity, lone surrogates, a byte order mark).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pydantic_core import from_json, to_json

from kloros_infra.daemon import http_problems
from kloros_infra.diagnostics import Diagnostic


def parse_object(data: bytes) -> dict[str, Any] | Diagnostic:
    """Read the object, or say why it is none."""
    try:
        value = from_json(data, allow_inf_nan=False)
        # What reads back as itself repeats no key; most clients write JSON as compactly as this.
        if to_json(value) != data:
            _DECODER.decode(data.decode())
    except ValueError as error:
        return http_problems.not_json(str(error) if data.strip() else "it is empty")
    if not isinstance(value, dict):
        return http_problems.not_json(f"found {_kind(value)}")
    return value


def dump(value: Any) -> bytes:
    """Write compact JSON in UTF-8: Ollama's callers grep for `"name":"` without a space."""
    return to_json(value)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key '{repeated}' appears twice in one object")
    return found


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


# from_json (jiter) has refused everything else by then: bad UTF-8, NaN, surrogates, depth.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_number)
