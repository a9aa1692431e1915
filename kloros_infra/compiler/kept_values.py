"""Values of ours as bytes and back, for what one compile keeps for the next.

They are pickled, which is what Python reads fastest. A pickle may name anything that can be imported and have it
called; here it can name values of ours alone, dataclasses and enums, so the worst that bytes of a stranger can make is
a value that is not true (pickle, "Restricting Globals").
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any

from kloros_infra.ir.lock import LockedWeights

PROTOCOL = 5
VALUES = "kloros_infra.ir."
FURTHER_VALUES = frozenset(
    {"kloros_infra.compiler.compiled", "kloros_infra.compiler.kept_instances", "kloros_infra.diagnostics"}
)


def to_bytes(value: object, known: Mapping[str, LockedWeights] | None = None) -> bytes:
    """Write a value; the `known` weights in it are named, not written."""
    stream = io.BytesIO()
    writer = _NamingWriter(stream, known) if known else _Writer(stream, PROTOCOL)
    writer.dump(value)
    return stream.getvalue()


def from_bytes(data: bytes, known: Mapping[str, LockedWeights] | None = None) -> object:
    """Read a value that was written with the same `known` weights; raise ValueError where that is not possible."""
    try:
        return _Reader(io.BytesIO(data), known or {}).load()
    except Exception as error:  # pickle, "UnpicklingError": others may be raised as well, not limited to a list
        raise ValueError(f"cannot be read: {error}") from error


class _Writer(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Write a dataclass as the call that makes it: without this, Python sets field by field when it reads.

        The same for an enum's member, which Python 3.11.2 writes as a call of getattr().
        """
        kind = type(obj)
        if is_dataclass(kind):
            return kind, _values(kind)(obj)
        return (kind, (obj.value,)) if isinstance(obj, Enum) else NotImplemented


class _NamingWriter(_Writer):
    """Asks for the name of every object, down to each number, so it is only used where there are names."""

    def __init__(self, stream: io.BytesIO, known: Mapping[str, LockedWeights]) -> None:
        super().__init__(stream, PROTOCOL)
        self._known = known

    def persistent_id(self, obj: Any) -> str | None:
        """Name weights that the reader has as well."""
        return obj.key if type(obj) is LockedWeights and self._known.get(obj.key) is obj else None


@cache
def _values(kind: type) -> Any:
    """Give what takes all fields out of a value, as a tuple."""
    names = [field.name for field in fields(kind)]
    return attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, known: Mapping[str, LockedWeights]) -> None:
        super().__init__(stream)
        self._known = known

    def persistent_load(self, pid: Any) -> LockedWeights:
        """Find weights by their name."""
        return self._known[pid]

    def find_class(self, module: str, name: str) -> Any:
        """Give a class of values; nothing else is given, and no other module imported."""
        is_ours = module.startswith(VALUES) or module in FURTHER_VALUES
        found = super().find_class(module, name) if is_ours else None
        if isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is no value")
