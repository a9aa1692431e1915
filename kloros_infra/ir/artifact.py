"""Generated files: a tree of relative paths to texts and links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextFile:
    """A whole file and its permission bits."""

    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; `target` as written into it."""

    target: str


Artifact = TextFile | Link


def text_of(artifact: Artifact | None) -> str:
    """Give a file's text; what is absent, or a link, has none."""
    return artifact.text if isinstance(artifact, TextFile) else ""


ArtifactTree = Mapping[str, Artifact]
"""Paths relative to the target root, without a leading slash, to artifacts."""
