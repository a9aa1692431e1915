"""The folder of unit files: reads every unit that the supervisor can run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kloros_infra.diagnostics import Problems
from kloros_infra.supervisor.unit_file import Setting, UnitFile, parse_unit_file

SUFFIXES = (".service", ".target")


@dataclass(frozen=True, slots=True)
class LoadedUnit:
    """A unit as it was read: its settings, what is wrong with its text, and the text itself, to notice changes."""

    file: UnitFile
    problems: Problems
    text: str


def read_units(folder: Path, *, masks: Path) -> dict[str, LoadedUnit]:
    """Read all units of a folder; one that is masked there or in `masks` is not there.

    As for systemd, a link to nothing or to /dev/null masks a unit, in an administrator's folder as well.
    """
    names = sorted(path.name for path in folder.glob("*") if path.suffix in SUFFIXES)
    units = ((name, read_unit(folder, name)) for name in names if not _is_mask(masks / name))
    return {name: unit for name, unit in units if unit is not None}


def _is_mask(path: Path) -> bool:
    return path.is_symlink() and not path.is_file()


def read_unit(folder: Path, name: str) -> LoadedUnit | None:
    """Read one unit, and the links in its `.wants` and `.requires` folders as settings; None where there is none."""
    path = folder / name
    if not path.is_file():
        return None
    text = path.read_text(errors="surrogateescape")
    file, problems = parse_unit_file(name, text, path=str(path))
    links = (
        Setting("Unit", key, link.name, 0)
        for key in ("Wants", "Requires")
        for link in sorted((folder / f"{name}.{key.lower()}").glob("*"))
    )
    return LoadedUnit(UnitFile(name, str(path), (*file.settings, *links)), problems, text)


def specifiers(unit: str, *, root: Path) -> dict[str, str]:
    """Give the specifiers of systemd.unit(5) that can be told here; the folders lie below the root."""
    name = unit.rpartition(".")[0]
    prefix, _, instance = name.partition("@")
    return {
        "%": "%",
        "n": unit,
        "N": name,
        "p": prefix,
        "i": instance,
        "t": str(root / "run"),
        "S": str(root / "var/lib"),
        "C": str(root / "var/cache"),
        "L": str(root / "var/log"),
        "E": str(root / "etc"),
    }
