"""What can be changed in a models.yaml, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | Sequence["Value"] | Mapping[str, "Value"]


@dataclass(frozen=True, slots=True)
class Where:
    """The item of a list whose `key` holds `value`, such as the model whose `id` is `code`."""

    key: str
    value: str

    def __str__(self) -> str:
        return self.value


Address: TypeAlias = tuple[str | int | Where, ...]
"""Keys of mappings, places in lists, and items of lists by what they hold, from the top of the file."""


def model_at(model_id: str) -> Address:
    """Give the address of a model."""
    return ("models", Where("id", model_id))


def version_at(model_id: str, version_id: str) -> Address:
    """Give the address of a model's version."""
    return (*model_at(model_id), "versions", Where("version_id", version_id))


@dataclass(frozen=True, slots=True)
class SetValue:
    """Give a key a value: a single value is replaced where it stands, a new key goes behind its neighbours."""

    address: Address
    value: Value


@dataclass(frozen=True, slots=True)
class AppendItem:
    """Put an item at the end of a list; a list that is not there yet is begun."""

    address: Address
    value: Value


@dataclass(frozen=True, slots=True)
class Remove:
    """Take an item or a key out, with the comments that belong to it."""

    address: Address


Edit: TypeAlias = SetValue | AppendItem | Remove


def address_text(address: Address) -> str:
    """Name an address for people: `models.code.current_version`."""
    return ".".join(str(part) for part in address)
