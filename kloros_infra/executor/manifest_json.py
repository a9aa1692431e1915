"""A generation's manifest as text, and back: the file `manifest.json` in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from kloros_infra.ir.generation import Manifest

MANIFEST = "manifest.json"
VERSION = 1
"""Keys may be added within a version: what an older program does not know it leaves aside, and it lacks nothing."""


def to_text(manifest: Manifest) -> str:
    """Write a manifest; the same manifest gives the same bytes."""
    body = _adapter().dump_json(manifest, indent=1).decode()
    return f'{{\n "version": {VERSION},{body[1:]}\n'


def from_text(text: str) -> Manifest | None:
    """Read a manifest; None when it is none of ours, or of a version that this program does not know."""
    try:
        version = _version().validate_json(text).version
        return _adapter().validate_json(text) if version <= VERSION else None
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class _Version:
    version: int = VERSION


@cache
def _version() -> TypeAdapter[_Version]:
    return TypeAdapter(_Version)


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)
