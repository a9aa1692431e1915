"""Settle the active profile on a target, from its routing table alone: models.yaml need not be there."""

from __future__ import annotations

from pathlib import Path

from kloros_infra.adapters import systemd
from kloros_infra.adapters.generations import GenerationFolders
from kloros_infra.adapters.target_files import RootedFiles
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.cli.presence import cards_there
from kloros_infra.daemon.files import read_table
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import profile_target
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.router.profile import select_profile


def profile_by_table(routing: Path) -> tuple[RoutingTable, tuple[str, str]]:
    """Read the table and choose the best profile whose cards are present; raise ProblemsError without a table."""
    table = read_table(WatchedFile(routing))
    if isinstance(table, Diagnostic):
        raise ProblemsError([table])
    cards = {card.name: card for profile in table.profiles for card in profile.cards}
    return table, select_profile(table.profiles, cards_there(cards.values()))


def start_profile(table: RoutingTable, name: str) -> None:
    """Write the profile file; on a real root have systemd start the profile's target, without waiting for it.

    This runs at boot: so it notes which generation that was.
    """
    layout = Layout()
    root = Path(table.profile_file.removesuffix(layout.profile_file))
    files = RootedFiles(root)
    files.write(layout.profile_file, TextFile(f"{name}\n"))
    GenerationFolders(root).note_boot()
    if root == Path("/") and systemd.is_available():
        systemd.Systemd().enqueue_start(profile_target(name))
