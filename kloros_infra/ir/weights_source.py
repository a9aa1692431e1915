"""What a source of weights says about a file before anything of it is read."""

from __future__ import annotations

from dataclasses import dataclass

from kloros_infra.ir.lock import Origin


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A file's revision and size now; `sha256` only where the source vouches for it.

    `revision` pins the bytes: a commit, or a package's version. None where nothing does, so only reading tells.
    """

    origin: Origin
    revision: str | None
    size_bytes: int
    sha256: str | None = None
