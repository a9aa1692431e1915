"""Pass 1 of 4, the other half: models.lock.yaml and its header files → Lock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from kloros_infra.compiler.header_json import ReadHeader, read_header
from kloros_infra.compiler.source import Source, read
from kloros_infra.compiler.spec import read_spec
from kloros_infra.diagnostics import Diagnostic, Problems, has_errors, in_order
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, LockedWeightsSpec, LockSpec, Origin, Pin
from kloros_infra.ir.split_gguf import set_sha256, split_set

LOCK_AGAIN = "Run `kloros-infra lock` to write the entry again; it stays at what it pins."
RESTORE = "Restore the lock from Git. Delete it only to pin everything anew, at the newest commits."


@dataclass(frozen=True, slots=True)
class Read:
    """A lock as far as it holds: its sound entries, and what is wrong with the others.

    `pins` says what entries pin that have to be read again: unsound ones, and those that an earlier version wrote.
    """

    lock: Lock
    pins: Mapping[str, Pin]
    problems: Problems

    @property
    def unsound(self) -> AbstractSet[str]:
        """Name the entries that are in the file and not in the lock."""
        return self.pins.keys() - self.lock.weights.keys()


def parse_lock(text: str, headers: Mapping[str, str], *, file: str) -> tuple[Lock | None, Problems]:
    """Read the lock; `headers` maps the names that it gives to header files to their texts."""
    found, problems = parse_entries(text, headers, file=file)
    if found is None:
        return None, problems
    return (None if found.problems else found.lock), found.problems


def parse_entries(text: str, headers: Mapping[str, str], *, file: str) -> tuple[Read | None, Problems]:
    """Read the lock entry by entry; None and the problems where the file as a whole cannot be read."""
    source, problems = read(text, file=file)
    if source is None:
        return None, _restore(problems)
    spec, more = read_spec(source, LockSpec)
    if spec is None or has_errors(problems):
        return None, _restore((*problems, *more))
    weights: dict[str, LockedWeights] = {}
    pins: dict[str, Pin] = {}
    found: list[Diagnostic] = []
    for key, entry in spec.weights.items():
        wrong = _contradictions(key, entry, source)
        header = _header(key, entry, headers, source)
        if isinstance(header, Diagnostic):
            wrong.append(header)
        elif not wrong:
            weights[key] = _locked(key, entry, header.header)
        if isinstance(header, Diagnostic) or wrong or not header.is_current:
            pins[key] = Pin(entry.source, entry.origin, entry.revision)
        found += wrong
    return Read(Lock(weights), pins, in_order(found)), ()


def _restore(problems: Problems) -> Problems:
    return in_order(replace(problem, hint=RESTORE) for problem in problems)


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


def _header(key: str, entry: LockedWeightsSpec, headers: Mapping[str, str], source: Source) -> ReadHeader | Diagnostic:
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
        return read_header(text)
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
        found += _split_contradictions(entry)
    return [_entry_problem("KI308", "Lock entry contradicts itself", f"{key}: {it}", source, key) for it in found]


def _split_contradictions(entry: LockedWeightsSpec) -> Iterator[str]:
    """Check that a split GGUF is pinned whole: where its parts go in the store follows from their number."""
    parts = split_set(entry.source)
    if parts is None or len(parts) == 1:
        return
    if tuple(part.source for part in entry.files) != parts:
        yield f"Its source has {len(parts)} parts, and it pins others."
    elif entry.sha256 != set_sha256(part.sha256 for part in entry.files):
        yield "Its sha256 is not that of its parts."


def _entry_problem(code: str, summary: str, detail: str, source: Source, key: str) -> Diagnostic:
    return Diagnostic(
        code=code,
        summary=summary,
        detail=detail,
        hint=LOCK_AGAIN,
        span=source.span(("weights", key)),
        address=f"weights.{key}",
    )
