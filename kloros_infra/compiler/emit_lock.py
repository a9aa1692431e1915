"""Lock → the texts of models.lock.yaml and of the header files beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import yaml

from kloros_infra.compiler.header_json import header_to_json
from kloros_infra.ir.lock import Lock, LockedFileSpec, LockedWeights, LockedWeightsSpec, LockSpec

LOCK_FILE = "models.lock.yaml"
HEADERS_FOLDER = "models.lock"
OVERRIDER_FOLDER = f"{HEADERS_FOLDER}/overrider"
"""Where answers of the external gguf-tensor-overrider are kept, one file for each instance."""
FIRST_LINE = "# Written by kloros-infra lock – do not edit."


def emit_lock(lock: Lock) -> Mapping[str, str]:
    """Write a lock down: paths beside models.yaml to texts, the lock's own first."""
    headers = {key: header_to_json(entry.header) for key, entry in sorted(lock.weights.items())}
    spec = LockSpec(version=1, weights={key: _entry(lock.weights[key], headers[key]) for key in headers})
    return {LOCK_FILE: lock_text(spec), **{header_path(key): text for key, text in headers.items()}}


def lock_text(spec: LockSpec) -> str:
    """Write the text of models.lock.yaml."""
    body = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=2**16)
    return f"{FIRST_LINE}\n{body}"


def header_path(key: str) -> str:
    """Say where an entry's header file is, beside models.lock.yaml."""
    return f"{HEADERS_FOLDER}/{key}.json"


def _entry(entry: LockedWeights, header: str) -> LockedWeightsSpec:
    return LockedWeightsSpec(
        origin=entry.origin,
        source=entry.source,
        revision=entry.revision,
        files=tuple(LockedFileSpec(source=f.source, size_bytes=f.size_bytes, sha256=f.sha256) for f in entry.files),
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        header=header_path(entry.key),
        header_sha256=hashlib.sha256(header.encode()).hexdigest(),
    )
