"""What sources, headers and the store of weights can complain of (KI310 to KI317, KI323, KI324)."""

from __future__ import annotations

from kloros_infra.compiler.printable import printable
from kloros_infra.diagnostics import Diagnostic


def _detail(name: str, reason: str) -> str:
    """Say what is wrong with a file; both may quote what strangers wrote into it."""
    return f"{printable(name)}: {printable(reason)}."


def file_missing(url: str, reason: str, hint: str) -> Diagnostic:
    """Say that a file is not on this machine."""
    return Diagnostic("KI310", "Weights not found", _detail(url, reason), hint)


def hub_unreachable(url: str, reason: str) -> Diagnostic:
    """Say that the hub did not answer."""
    return Diagnostic(
        code="KI311",
        summary="Hub cannot be reached",
        detail=_detail(url, reason),
        hint="Check the network, or HF_ENDPOINT if you use a mirror, and try again.",
    )


def hub_lacks(url: str, reason: str, hint: str) -> Diagnostic:
    """Say that the hub has no such repository, revision or file."""
    return Diagnostic("KI312", "Not on the hub", _detail(url, reason), hint)


def hub_refused(url: str, repository: str, reason: str) -> Diagnostic:
    """Say that the hub does not give a file to us."""
    return Diagnostic(
        code="KI324",
        summary="Hub refuses access",
        detail=_detail(url, reason),
        hint=f"Accept the licence on the page of {repository}, and set HF_TOKEN to a token that may read it.",
    )


def not_a_gguf(name: str, reason: str) -> Diagnostic:
    """Say that a file is no whole GGUF."""
    return Diagnostic(
        code="KI313",
        summary="Not a whole GGUF file",
        detail=_detail(name, reason),
        hint="Fetch the file again. If it comes in parts, list all of them, in order.",
    )


def header_incomplete(name: str, reason: str) -> Diagnostic:
    """Say that a header lacks what placement needs."""
    return Diagnostic(
        code="KI314",
        summary="GGUF header says too little",
        detail=_detail(name, reason),
        hint="Use a file converted by a current llama.cpp; vocabulary-only and adapter files cannot be served.",
    )


def unsupported_gguf(name: str, reason: str) -> Diagnostic:
    """Say that a GGUF is of a kind that llama.cpp does not read here."""
    return Diagnostic(
        code="KI323",
        summary="GGUF of another kind",
        detail=_detail(name, reason),
        hint="Use a little-endian file that a current llama.cpp converted or quantized.",
    )


def split_gguf(name: str, reason: str) -> Diagnostic:
    """Say that the parts of a split GGUF do not hold together."""
    return Diagnostic(
        code="KI315",
        summary="Split GGUF does not hold together",
        detail=_detail(name, reason),
        hint="Name one part, as llama-gguf-split named it (-00001-of-00003.gguf); all of one split must be there.",
    )


def differs(key: str, what: str, *, expected: str, found: str) -> Diagnostic:
    """Say that weights are not those that the lock pins."""
    return Diagnostic(
        code="KI316",
        summary="Weights differ from the lock",
        detail=f"The {what} of {key} is {found}, and the lock says {expected}.",
        hint="If the source changed on purpose, run `kloros-infra lock` and review the difference.",
        address=f"weights.{key}",
    )


def cannot_be_stored(key: str, reason: str) -> Diagnostic:
    """Say that the store's folder does not take weights."""
    return Diagnostic(
        code="KI317",
        summary="Weights cannot be stored",
        detail=f"{key}: {reason}. Nothing is left of the attempt.",
        hint="Make room or mend the permissions of the store's folder, then apply again.",
        address=f"weights.{key}",
    )
