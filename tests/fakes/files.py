"""Target files in a dictionary, held to the same contract tests as the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ObstacleError
from kloros_infra.ir.artifact import Artifact
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import Installed
from tests.fakes.generations import FakeGenerations, ignore


class FakeFiles:
    """Files of an imaginary root; `watch` is called around everything that changes them.

    What lies below `current` is read from the current generation, where there is one.
    """

    def __init__(
        self,
        watch: Callable[[str], None] = ignore,
        free: int = 10**15,
        generations: FakeGenerations | None = None,
    ) -> None:
        self.files: dict[str, Artifact] = {}
        self.generations = generations or FakeGenerations(watch)
        self.record = Installed()
        self.free = free
        self._watch = watch

    def read(self, path: str) -> Artifact | None:
        folder, name = self._folder(path)
        return folder.get(name)

    def _folder(self, path: str) -> tuple[dict[str, Artifact], str]:
        """Follow the link to the current generation, where a path goes through it."""
        number, layout = self.generations.current, Layout()
        if number is not None and layout.is_content(_checked(path)):
            # A link may lead to a generation whose folder is gone.
            return self.generations.kept.get(number, {}), layout.content_name(path)
        return self.files, _checked(path)

    @property
    def visible(self) -> dict[str, Artifact]:
        """Give all files as the machine sees them, without the generations' own."""
        number, layout = self.generations.current, Layout()
        content = {} if number is None else dict(self.generations.kept[number])
        content.pop("manifest.json", None)
        return {**self.files, **{layout.content_path(name): artifact for name, artifact in content.items()}}

    def write(self, path: str, artifact: Artifact) -> None:
        self._watch(f"before write {path}")
        folder, name = self._folder(path)
        folder[name] = artifact
        self._watch(f"after write {path}")

    def remove(self, path: str) -> None:
        self._watch(f"before remove {path}")
        folder, name = self._folder(path)
        folder.pop(name, None)
        self._watch(f"after remove {path}")

    def installed(self) -> Installed:
        return self.record

    def record_installed(self, installed: Installed) -> None:
        self._watch("before record")
        self.record = installed
        self._watch("after record")

    def sweep(self) -> None:
        """Nothing is ever half written here."""

    def free_bytes(self, path: str) -> int:
        return self.free


def _checked(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ObstacleError([Diagnostic("KI516", "Path leaves the target root", path, "")])
    return path
