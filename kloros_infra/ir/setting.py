"""What a setting says about itself, beside its type: from here come the JSON Schema, the reference and `explain`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

STANDARD = "standard"
INHERITED = "inherited"
ACTED_ON = "acted_on"


class Spec(BaseModel):
    """A part of models.yaml, exactly as the operator wrote it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def about(
    doc: str, example: Any, *, standard: str | None = None, inherited: bool = False, acted_on: bool = True
) -> Any:
    """Describe a setting: what it does (with its unit) and an example as written.

    `standard` tells in words what holds where the setting is left out and its default is no plain value. `inherited`
    settings can stand in `defaults`, a model and one of its profiles; the nearest counts. What nothing acts on yet is
    checked and kept, and `validate` says so.
    """
    extra: dict[str, Any] = {STANDARD: standard, INHERITED: inherited, ACTED_ON: acted_on}
    return Field(description=doc, examples=[example], json_schema_extra=extra)
