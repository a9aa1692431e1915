"""Pass 1 of 4, the other half: models.lock.yaml and its header files → Lock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from kloros_infra.compiler.header_json import header_from_json
from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, LockedWeightsSpec, LockSpec, Origin

LOCK_AGAIN = "Run `kloros-infra lock` to write the lock again; it is not edited by hand."


def parse_lock(text: str, headers: Mapping[str, str], *, file: str) -> tuple[Lock | None, Problems]:
    """Read the lock; `headers` maps the names that it gives to header files to their texts."""
    source, problems = read(text, file=file)
    if source is None:
        return None, _lock_again(problems)
    spec, more = read_spec(source, LockSpec)
    if spec is None or has_errors(problems):
        return None, _lock_again((*problems, *more))
    weights: dict[str, LockedWeights] = {}
    found: list[Diagnostic] = []
    for key, entry in spec.weights.items():
        found.extend(_contradictions(key, entry, source))
        header = _header(key, entry, headers, source)
        if isinstance(header, Diagnostic):
            found.append(header)
        else:
            weights[key] = _locked(key, entry, header)
    return (None, in_order(found)) if found else (Lock(weights), ())


def _lock_again(problems: Problems) -> Problems:
    return in_order(replace(problem, hint=LOCK_AGAIN) for problem in problems)


def _locked(key: str, entry: LockedWeightsSpec, header: GgufHeader) -> LockedWeights:
    return LockedWeights(
        key=key,
        origin=entry.origin,
        source=entry.source,
        revision=entry.revision,
        files=tuple(LockedFile(part.source, part.size_bytes, part.sha256) for part in entry.files),
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        header=header,
    )


def _header(key: str, entry: LockedWeightsSpec, headers: Mapping[str, str], source: Source) -> GgufHeader | Diagnostic:
    """Read an entry's header file once its sha256 is what the lock says."""
    text = headers.get(entry.header)
    if text is None:
        detail = f"{key} names the header file {entry.header}, which is not there."
        return _entry_problem("KI305", "Header file missing", detail, source, key)
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    if found != entry.header_sha256:
        detail = f"{entry.header} has the sha256 {found}; the lock says {entry.header_sha256}."
        return _entry_problem("KI306", "Header file changed", detail, source, key)
    try:
        return header_from_json(text)
    except ValueError as error:
        detail = f"{entry.header} cannot be read: {error}."
        return _entry_problem("KI307", "Header file not readable", detail, source, key)


def _contradictions(key: str, entry: LockedWeightsSpec, source: Source) -> list[Diagnostic]:
    """Check what one entry says against itself."""
    found = []
    if entry.origin is Origin.DERIVED and (entry.files or entry.sha256):
        found.append("Its header is derived, yet it pins files.")
    if entry.origin is not Origin.DERIVED:
        if entry.sha256 is None:
            found.append("It pins files, yet it has no sha256.")
        if sum(part.size_bytes for part in entry.files) != entry.size_bytes:
            found.append(f"Its files do not add up to its {entry.size_bytes} bytes.")
    return [_entry_problem("KI308", "Lock entry contradicts itself", f"{key}: {it}", source, key) for it in found]


def _entry_problem(code: str, summary: str, detail: str, source: Source, key: str) -> Diagnostic:
    return Diagnostic(
        code=code,
        summary=summary,
        detail=detail,
        hint=LOCK_AGAIN,
        span=source.span(("weights", key)),
        address=f"weights.{key}",
    )
