"""Configurations of other programs in place of a models.yaml (KI128): one word on the whole, not many on its keys."""

from __future__ import annotations

from typing import Any

from kloros_infra.compiler.source import Source
from kloros_infra.diagnostics import Diagnostic

_OURS = ("hosts", "profiles", "include")
_BEGIN = "`kloros-infra init` writes a models.yaml for this machine."


def foreign_file(source: Source) -> Diagnostic | None:
    """Say whose configuration a file is that has nothing of ours; None where it may be meant as a models.yaml."""
    found = _program(source.tree)
    if found is None:
        return None
    program, hint = found
    return Diagnostic(
        code="KI128",
        summary="Configuration of another program",
        detail=f"This looks like {program}, not like a models.yaml.",
        hint=hint,
        span=source.span(()),
    )


def _program(tree: Any) -> tuple[str, str] | None:
    match tree:
        case str() if tree.startswith("FROM "):
            return "a Modelfile of Ollama", f"`kloros-infra import ollama` takes over what Ollama has. {_BEGIN}"
        case dict() if any(key in tree for key in _OURS):
            return None
        case {"model_list": list()}:
            return "a configuration of LiteLLM", f"{_BEGIN} `kloros-infra export litellm` writes LiteLLM's from it."
        case {"models": dict(models)} if any(isinstance(one, dict) and "cmd" in one for one in models.values()):
            return "a configuration of llama-swap", "`kloros-infra import llama-swap FILE` takes its models over."
        case {"services": dict()}:
            return "a Compose file", f"{_BEGIN} Units take the place of its services."
        case _:
            return None
