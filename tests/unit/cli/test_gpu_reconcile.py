"""`gpu reconcile`: what it says each minute where nobody watches, and of what it makes the past."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.agent.records import RecordedEvent, events_text, read_cleared
from kloros_infra.cli.gpu_site import GpuSite
from kloros_infra.cli.gpu_wishes import note_cleared
from kloros_infra.cli.program import program
from tests.gpu_sites import a_gpu_site


@pytest.fixture
def site(tmp_path: Path) -> GpuSite:
    return a_gpu_site(tmp_path)


def words_of(site: GpuSite) -> list[str]:
    places = site.places
    kernel = ["--sysfs", str(places.sysfs), "--procfs", str(places.procfs)]
    return ["gpu", "reconcile", "--root", str(places.where.root), *kernel]


def reconcile(site: GpuSite) -> Result:
    return CliRunner().invoke(program, words_of(site))


def test_what_is_as_it_was_is_not_said_again(site: GpuSite) -> None:
    assert "max: 'max' has its cards" in reconcile(site).stdout
    again = reconcile(site)
    assert (again.exit_code, again.output) == (0, "")
    lockout = site.where.root / site.where.layout.lockout_file
    lockout.parent.mkdir(parents=True)
    lockout.write_text("{")
    assert "KI901" in reconcile(site).stderr
    assert reconcile(site).output == ""
    lockout.unlink()
    assert reconcile(site).output == ""
    lockout.write_text("{")
    assert "KI901" in reconcile(site).stderr


def test_on_a_terminal_it_says_how_it_is(site: GpuSite) -> None:
    reconcile(site)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "kloros_infra", *words_of(site)], stdout=theirs, stderr=subprocess.PIPE, check=False
    )
    os.close(theirs)
    said = os.read(ours, 1000)
    os.close(ours)
    assert (done.returncode, said.startswith(b"max: 'max' has its cards")) == (0, True), done.stderr


def test_what_is_dated_after_now_is_of_the_past_once_it_is_cleared(site: GpuSite) -> None:
    now = datetime(2026, 1, 30, 12, tzinfo=UTC).timestamp()
    layout, root = site.where.layout, site.where.root
    events = [RecordedEvent(card="rtx5080", xid=79, epoch_s=now + 5000)]
    (root / layout.faults_file).parent.mkdir(parents=True)
    (root / layout.faults_file).write_text(events_text(events, boot_id()))
    note_cleared(site, "rtx5080", now)
    note_cleared(site, "rtx3060", now)
    cleared = read_cleared((root / layout.cleared_file).read_text())
    assert cleared == {"rtx5080": now + 5000, "rtx3060": now}
