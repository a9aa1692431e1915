"""Target files in a dictionary, held to the same contract tests as the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.observed import Installed


def ignore(call: str) -> None:
    """Watch nothing."""


class FakeFiles:
    """Files of an imaginary root; `watch` is called around everything that changes them."""

    def __init__(self, watch: Callable[[str], None] = ignore, free: int = 10**15) -> None:
        self.files: dict[str, Artifact] = {}
        self.record = Installed()
        self.free = free
        self._watch = watch

    def read(self, path: str) -> Artifact | None:
        return self.files.get(_checked(path))

    def write(self, path: str, artifact: Artifact) -> None:
        self._watch(f"before write {path}")
        self.files[_checked(path)] = artifact
        self._watch(f"after write {path}")

    def remove(self, path: str) -> None:
        self._watch(f"before remove {path}")
        self.files.pop(_checked(path), None)
        self._watch(f"after remove {path}")

    def installed(self) -> Installed:
        return self.record

    def record_installed(self, installed: Installed) -> None:
        self._watch("before record")
        self.record = installed
        self._watch("after record")

    def free_bytes(self, path: str) -> int:
        return self.free


def _checked(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ObstacleError([Diagnostic("KI516", "Path leaves the target root", path, "")])
    return path
