"""What an installation leaves beside its files is taken away with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.traces import Traces
from kloros_infra.ir.layout import Layout

LAYOUT = Layout()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / LAYOUT.state).mkdir(parents=True)
    return tmp_path


def test_the_router_s_folders_go_with_what_is_in_them(root: Path) -> None:
    for path in (LAYOUT.leases_file, f"{LAYOUT.leases_file}.kloros-tmp", LAYOUT.control_socket):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")

    Traces(root).remove()

    assert not (root / LAYOUT.router_state).exists()
    assert not (root / LAYOUT.router_run).exists()


def test_the_state_of_a_made_up_user_is_found_behind_its_link(root: Path) -> None:
    folder = root / LAYOUT.router_state
    private = folder.parent / "private" / folder.name
    private.mkdir(parents=True)
    (private / "leases.jsonl").write_text("{}\n")
    folder.symlink_to(Path("private") / folder.name)

    Traces(root).remove()

    assert not folder.is_symlink()
    assert not private.exists()
    assert private.parent.is_dir()


def test_what_was_noted_of_the_cards_goes(root: Path) -> None:
    run = (LAYOUT.dirty_file, LAYOUT.cards_file, LAYOUT.topology_file, LAYOUT.faults_file, LAYOUT.reconcile_lock)
    for path in (*run, LAYOUT.cleared_file, f"{LAYOUT.run}/.gpu_cards.json.4711.kloros-tmp", LAYOUT.lockout_file):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")

    Traces(root).remove()

    assert not (root / LAYOUT.run).exists()
    assert (root / LAYOUT.lockout_file).exists(), "what people want of their cards is theirs"


@pytest.mark.parametrize("is_used", [False, True])
def test_the_folder_of_lockouts_goes_with_us_unless_somebody_keeps_one(root: Path, *, is_used: bool) -> None:
    missing = Traces(root).missing_folders()
    Traces(root).note(missing)
    folder = root / LAYOUT.lockout_folder
    folder.mkdir(parents=True)
    if is_used:
        (folder / "games.json").write_text("{}")

    Traces(root).remove()

    assert folder.parent.exists() is folder.exists() is is_used


def test_a_folder_with_folders_of_others_stays(root: Path) -> None:
    other = root / LAYOUT.router_state / "others"
    other.mkdir(parents=True)

    Traces(root).remove()

    assert other.is_dir()
