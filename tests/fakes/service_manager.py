"""A service manager that keeps what systemd keeps: loaded definitions, and what each process was started with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import StepFailedError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.observed import ActiveState, UnitState
from kloros_infra.ir.unit_keys import environment_files, program
from tests.fakes.files import FakeFiles
from tests.fakes.generations import ignore

Definition = tuple[str, ...]
"""The texts that a process was started with: its unit, its env files, its program."""


class FakeServiceManager:
    """Runs the unit files of FakeFiles; units in `crashing` end as soon as they are started."""

    name = "fake"

    def __init__(self, files: FakeFiles, layout: Layout | None = None, watch: Callable[[str], None] = ignore) -> None:
        self.running: dict[str, Definition] = {}
        self.loaded: dict[str, str] = {}
        self.crashing: set[str] = set()
        self.endings: dict[str, tuple[str, int]] = {}
        self.logs: dict[str, tuple[str, ...]] = {}
        self.reloads = 0
        self._files = files
        self._layout = layout or Layout()
        self._watch = watch
        self._pids: dict[str, int] = {}
        self._failed: set[str] = set()
        self._ended: set[str] = set()
        self._last_pid = 1000
        self._linked = files.generations.current

    def reload(self) -> None:
        self._watch("before reload")
        self.reloads += 1
        # The generator links the units of what is current now; a later flip counts at the next reload.
        self._linked = self._files.generations.current
        self.loaded = {unit: text for unit in self.running if (text := self._text(unit)) is not None}
        # A target has no process: what it is changes with the reload.
        self.running |= {unit: (text,) for unit, text in self.loaded.items() if unit.endswith(".target")}
        self._watch("after reload")

    def start(self, unit: str) -> None:
        self._watch(f"before start {unit}")
        if unit not in self.running:
            # systemd forgets an inactive unit and reads its file again at the next start.
            self._run(unit, self._text(unit))
        self._watch(f"after start {unit}")

    def restart(self, unit: str) -> None:
        self._watch(f"before restart {unit}")
        text = self.loaded.get(unit) if unit in self.running else self._text(unit)
        self.running.pop(unit, None)
        self._run(unit, text)
        self._watch(f"after restart {unit}")

    def stop(self, unit: str) -> None:
        self._watch(f"before stop {unit}")
        if self.running.pop(unit, None) is not None:
            self._ended.add(unit)
        self.loaded.pop(unit, None)
        self._failed.discard(unit)
        self._watch(f"after stop {unit}")

    def reset_failed(self, units: Collection[str]) -> None:
        self._failed -= set(units)

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        return {unit: self._state(unit) for unit in units}

    def log_tail(self, unit: str, lines: int) -> tuple[str, ...]:
        return self.logs.get(unit, ())[-lines:]

    def definition(self, unit: str) -> Definition:
        """Give what a start of the unit would run by now."""
        text = self._text(unit) or ""
        return self._definition(text)

    def _definition(self, text: str) -> Definition:
        paths = [*environment_files(text), program(text)]
        return (text, *(self._content(path.removeprefix(self._layout.absolute(""))) for path in paths if path))

    def _run(self, unit: str, text: str | None) -> None:
        if text is None:
            raise StepFailedError(
                [Diagnostic("KI601", "Unit not found", f"{unit} has no unit file.", "", address=unit)]
            )
        self._failed.discard(unit)
        if unit in self.crashing:
            self._failed.add(unit)
            return
        self._last_pid += 1
        self._pids[unit] = self._last_pid
        self.running[unit] = self._definition(text)
        self.loaded[unit] = text

    def _state(self, unit: str) -> UnitState:
        if unit in self.running:
            return UnitState(unit, ActiveState.ACTIVE, "running", main_pid=self._pids[unit])
        if unit in self._failed:
            result, status = self.endings.get(unit, ("exit-code", 1))
            return UnitState(unit, ActiveState.FAILED, "failed", result=result, exit_status=status)
        return UnitState(unit, ActiveState.INACTIVE, "dead", has_ended=unit in self._ended)

    def _text(self, unit: str) -> str | None:
        """Read a unit as it is linked; one of before there were generations comes first (systemd.unit(5))."""
        path, linked = self._layout.unit_path(unit), self._linked
        if linked is None:
            return self._content(self._layout.override_path(unit)) or self._content(path) or None
        artifact = self._files.generations.read(linked, self._layout.content_name(path))
        mine = artifact.text if isinstance(artifact, TextFile) else None
        return self._content(self._layout.override_path(unit)) or mine

    def _content(self, path: str) -> str:
        artifact = self._files.read(path)
        return artifact.text if isinstance(artifact, TextFile) else ""
