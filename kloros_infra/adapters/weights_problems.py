"""What sources, headers and the store of weights can complain of (KI310 to KI317)."""

from __future__ import annotations

from kloros_infra.diagnostics import Diagnostic


def file_missing(url: str, reason: str, hint: str) -> Diagnostic:
    """Say that a file is not on this machine."""
    return Diagnostic("KI310", "Weights not found", f"{url}: {reason}.", hint)


def hub_unreachable(url: str, reason: str) -> Diagnostic:
    """Say that the hub did not answer."""
    return Diagnostic(
        code="KI311",
        summary="Hub cannot be reached",
        detail=f"{url}: {reason}.",
        hint="Check the network, or HF_ENDPOINT if you use a mirror, and try again.",
    )


def hub_refused(url: str, reason: str) -> Diagnostic:
    """Say that the hub has no such file or does not give it to us."""
    return Diagnostic(
        code="KI312",
        summary="Hub does not give the file",
        detail=f"{url}: {reason}.",
        hint="Check the spelling of owner, repository and file. A gated or private repository needs HF_TOKEN.",
    )


def not_a_gguf(name: str, reason: str) -> Diagnostic:
    """Say that a file is no whole GGUF."""
    return Diagnostic(
        code="KI313",
        summary="Not a whole GGUF file",
        detail=f"{name}: {reason}.",
        hint="Fetch the file again. If it comes in parts, list all of them, in order.",
    )


def header_incomplete(name: str, reason: str) -> Diagnostic:
    """Say that a header lacks what placement needs."""
    return Diagnostic(
        code="KI314",
        summary="GGUF header says too little",
        detail=f"{name}: {reason}.",
        hint="Use a file converted by a current llama.cpp; vocabulary-only and adapter files cannot be served.",
    )


def split_gguf(name: str, count: int) -> Diagnostic:
    """Say that a file is one of several GGUFs, which do not join by putting one behind the other."""
    return Diagnostic(
        code="KI315",
        summary="Split GGUF",
        detail=f"{name} is one of {count} GGUF files that llama-gguf-split made of one.",
        hint="Merge them with `llama-gguf-split --merge` and name the result, or choose a file that is not split.",
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
