"""Have systemd look at the units of a staged generation before any of them is made current."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters.systemd_analyze import SystemdAnalyze, check_exposure
from kloros_infra.diagnostics import Problems
from kloros_infra.ir.layout import Layout

SUFFIXES = frozenset({".service", ".target", ".path", ".timer", ".socket", ".slice"})


class StagedUnits:
    """Asks systemd-analyze about the units of a generation, all of them together."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root = root
        self._layout = layout

    def problems(self, number: int, exposure_limit: float | None) -> Problems:
        """Say what systemd finds wrong with them, and which services could do more than the limit allows."""
        units, programs = (
            self._root / self._layout.generation_path(number) / self._layout.content_name(folder)
            for folder in (self._layout.units, self._layout.programs)
        )
        # While an earlier generation is current, or none, their programs are not where the units will find them.
        coming = [self._layout.absolute(self._layout.program_path(path.name)) for path in programs.glob("*")]
        files = [path for path in units.glob("*") if path.suffix in SUFFIXES]
        analyze = SystemdAnalyze()
        found = analyze.verify(files, coming=coming)
        if exposure_limit is None:
            return found
        exposures, unknown = analyze.security(files)
        # Where systemd-analyze cannot be asked, both say so.
        return tuple(dict.fromkeys((*found, *unknown, *check_exposure(exposures, limit=exposure_limit))))


class UncheckedUnits:
    """Stands in where no systemd will ever read the units, nor enforce what they close."""

    def problems(self, number: int, exposure_limit: float | None) -> Problems:  # noqa: ARG002 - the port has them
        """Find nothing."""
        return ()
