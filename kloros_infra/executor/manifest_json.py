"""A generation's manifest as text, and back: the file `manifest.json` in its folder."""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from kloros_infra.ir.generation import Manifest

MANIFEST = "manifest.json"


def to_text(manifest: Manifest) -> str:
    """Write a manifest; the same manifest gives the same bytes."""
    return _adapter().dump_json(manifest, indent=1).decode() + "\n"


def from_text(text: str) -> Manifest | None:
    """Read a manifest; None when it is none of ours."""
    try:
        return _adapter().validate_json(text)
    except ValidationError:
        return None


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)
