"""Whether Ollama has a store here, and which models are in it; what is in the models is left to `import ollama`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kloros_infra.adapters.ollama_store import MANIFESTS
from kloros_infra.migration.ollama_manifest import name_of
from kloros_infra.starting.facts import FoundOllama


def find_ollama(stores: Iterable[Path]) -> FoundOllama | None:
    """Find the first store that holds models; None where there is none that this user may read."""
    for store in stores:
        names = tuple(sorted(_names(store / MANIFESTS)))
        if names:
            return FoundOllama(str(store), names)
    return None


def _names(manifests: Path) -> Iterator[str]:
    for file in manifests.glob("*/*/*/*"):
        name = name_of(file.relative_to(manifests).parts)
        if name is not None and file.is_file():
            yield str(name)
