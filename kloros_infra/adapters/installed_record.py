"""installed.json: what earlier applies put on the machine, with a checksum over itself."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kloros_infra.ir.lock import Sha256
from kloros_infra.ir.observed import Installed
from kloros_infra.ir.on_change import Kept

# Relative, and no part of it may lead upwards.
RelativePath = Annotated[str, Field(pattern=r"^[^/\x00]+(/[^/\x00]+)*$")]


_KEPT = TypeAdapter(dict[str, Kept])


class InstalledSpec(BaseModel):
    """The file as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1, 2, 3]
    digests: dict[RelativePath, Sha256]
    is_unfinished: bool
    owed: tuple[str, ...]
    staged: int | None = None
    kept: dict[str, Kept] = {}
    checksum: str


def to_text(installed: Installed) -> str:
    """Write the record; the same record gives the same bytes.

    Before the third version nothing was left running by a former definition; a record of which that is true is
    written as older programs read it.
    """
    return _written(installed, version=3 if installed.kept else 2)


def _written(installed: Installed, version: int) -> str:
    """Write a record as the version has it: before the second there were no generations."""
    body: dict[str, object] = {
        "version": version,
        "digests": dict(sorted(installed.digests.items())),
        "is_unfinished": installed.is_unfinished,
        "owed": sorted(installed.owed),
    }
    if version > 1:
        body["staged"] = installed.staged
    if version > 2:
        body["kept"] = _KEPT.dump_python(dict(sorted(installed.kept.items())), mode="json")
    return json.dumps({**body, "checksum": _checksum(body)}, indent=1) + "\n"


def from_text(text: str) -> Installed | None:
    """Read the record; None when a byte of it is not as it was written."""
    try:
        spec = InstalledSpec.model_validate_json(text)
    except ValidationError:
        return None
    installed = Installed(spec.digests, spec.is_unfinished, frozenset(spec.owed), spec.staged, spec.kept)
    return installed if _written(installed, spec.version) == text else None


def _checksum(body: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
