"""The `gpu` commands as they are typed: what they print, for people and for programs, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kloros_infra.cli.gpu_site import GpuSite
from kloros_infra.cli.program import program
from kloros_infra.errors import KlorosError
from tests.factories import a_routing_table
from tests.gpu_sites import CODE_MAX, a_gpu_site
from tests.needed import need


@pytest.fixture
def site(tmp_path: Path) -> GpuSite:
    return a_gpu_site(tmp_path)


def run(site: GpuSite, *words: str) -> Result:
    places = site.places
    kernel = ["--sysfs", str(places.sysfs), "--procfs", str(places.procfs)]
    return CliRunner().invoke(program, ["gpu", *words, "--root", str(places.where.root), *kernel])


def data_of(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    return found


def refused(done: Result) -> tuple[int, str]:
    """Give the exit code and the code of the first problem."""
    assert isinstance(done.exception, KlorosError), done.output
    return done.exception.exit_code, done.exception.problems[0].code


def test_a_gpu_is_locked_listed_and_unlocked(site: GpuSite) -> None:
    locked = run(site, "lock", "rtx5080", "--until", "2999-01-01", "--reason", "gaming")
    assert (locked.exit_code, locked.output.startswith("rtx5080 is locked out until 2999-01-01 00:00. ")) == (0, True)
    listed = run(site, "list")
    row = next(line for line in listed.output.splitlines() if line.startswith("rtx5080"))
    assert row.split()[1:3] == ["locked", "-"]
    assert row.endswith("gaming")
    assert [card["state"] for card in data_of(run(site, "list", "--json"))["cards"]] == ["locked", "eligible"]
    assert data_of(run(site, "unlock", "0", "--json"))["card"]["state"] == "waiting"


def test_who_does_not_wait_is_told_at_once(site: GpuSite) -> None:
    assert data_of(run(site, "lock", "rtx3060", "--no-wait", "--json"))["profile"] is None
    assert (site.where.root / site.where.layout.dirty_file).exists()


def test_a_profile_is_pinned_and_unpinned(site: GpuSite) -> None:
    assert data_of(run(site, "pin", "mid", "--json"))["pin"] == "mid"
    assert run(site, "list").output.startswith("Profile mid, pinned: 'mid' is pinned")
    assert run(site, "unpin").output.startswith("No profile is pinned any more.")
    assert run(site, "clear", "rtx5080").output == "rtx5080 is not in quarantine.\n"


def test_a_gpu_is_released_and_returned(site: GpuSite) -> None:
    released = run(site, "release", "rtx5080", "--wait", "1s")
    assert (released.exit_code, "rtx5080 is free, after " in released.output) == (0, True)
    assert data_of(run(site, "release", "rtx5080", "--json"))["is_free"] is True
    assert run(site, "return", "rtx5080").output.startswith("rtx5080 is not locked out any more. It is waiting (")
    assert run(site, "return", "rtx5080").output == "rtx5080 is not locked out.\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("lock", "rtx5800"), "KI915"),
        (("unlock", "7"), "KI915"),
        (("release", "GPU-0"), "KI915"),
        (("return", ""), "KI915"),
        (("clear", "rtx"), "KI915"),
        (("pin", "med"), "KI916"),
    ],
)
def test_a_name_that_is_none_ends_with_2(site: GpuSite, words: tuple[str, ...], code: str) -> None:
    assert refused(run(site, *words)) == (2, code)


def test_a_time_that_is_none_ends_with_2(site: GpuSite) -> None:
    done = run(site, "lock", "rtx5080", "--until", "soon")
    assert (done.exit_code, "'soon' is not a time such as" in done.output) == (2, True)


def test_without_cards_there_is_nothing_to_list(tmp_path: Path) -> None:
    site = a_gpu_site(tmp_path, a_routing_table())
    assert run(site, "list").output == "No profile here needs a GPU.\n"
    data = data_of(run(site, "list", "--json"))
    assert (data["version"], data["cards"], data["problems"]) == (1, [], [])
    assert data["profile"] in site.table.profile_names


def test_where_nothing_is_installed_or_the_table_is_damaged_that_is_said(site: GpuSite) -> None:
    routing = site.where.root / site.where.layout.routing
    routing.write_text("{")
    assert refused(run(site, "list"))[0] == 1
    routing.unlink()
    for word in ("list", "unpin"):
        assert refused(run(site, word)) == (1, "KI906")
    for words in (("lock", "rtx5080"), ("pin", "mid")):
        assert refused(run(site, *words)) == (2, "KI906")


def test_what_nobody_follows_is_listed_as_it_is_not_as_it_was(site: GpuSite) -> None:
    run(site, "lock", "rtx5080")
    (site.where.root / site.where.layout.lockout_folder / "rtx5080.json").unlink()
    states = {card["card"]: card["state"] for card in data_of(run(site, "list", "--json"))["cards"]}
    assert states["rtx5080"] == "waiting"


def test_a_reason_is_text_and_no_longer_than_it_is_shown(site: GpuSite) -> None:
    refused = run(site, "lock", "rtx5080", "--reason", os.fsdecode(b"caf\xe9"))
    assert (refused.exit_code, "it is not UTF-8 text" in refused.output) == (2, True)
    assert run(site, "lock", "rtx5080", "--reason", "x" * 70_000).exit_code == 0
    file = site.where.root / site.where.layout.lockout_folder / "rtx5080.json"
    assert json.loads(file.read_text())["reason"] == "x" * 200


def test_the_shell_completes_the_names_of_cards_and_profiles(site: GpuSite) -> None:
    def offered(words: str) -> list[str]:
        root = site.where.root
        asked = {"_GPU_COMPLETE": "bash_complete", "COMP_WORDS": f"gpu gpu {words}", "COMP_CWORD": "5"}
        line = asked["COMP_WORDS"].replace("ROOT", str(root))
        done = CliRunner().invoke(program, prog_name="gpu", env={**asked, "COMP_WORDS": line})
        return [item.partition(",")[2] for item in done.output.splitlines() if item]

    assert offered("lock --root ROOT rtx") == ["rtx5080", "rtx3060"]
    assert offered("pin --root ROOT mi") == ["mid"]
    assert offered("lock --root /nowhere rtx") == []


# Root writes everywhere; capabilities(7).
NO_ROOT = ("setpriv", "--bounding-set", "-dac_override") if os.geteuid() == 0 else ()


def test_who_may_write_lockouts_alone_may_lock_gpus_out_and_nothing_else(site: GpuSite) -> None:
    need(not NO_ROOT or shutil.which(NO_ROOT[0]) is not None, "setpriv (apt-get install util-linux)")
    folder = site.where.root / site.where.layout.lockout_folder
    folder.mkdir(parents=True)
    read_only = [folder, *folder.parents[:3]]
    for one in read_only:
        one.chmod(0o555)

    def as_user(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*NO_ROOT, sys.executable, "-m", "kloros_infra", "gpu", *words, "--root", str(site.where.root)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    denied = as_user("lock", "rtx5080", "--no-wait")
    assert (denied.returncode, "KI917" in denied.stderr, str(folder) in denied.stderr) == (1, True, True)
    folder.chmod(0o755)
    assert as_user("lock", "rtx5080", "--no-wait", "--reason", "gaming").returncode == 0
    assert json.loads((folder / "rtx5080.json").read_text())["reason"] == "gaming"
    denied = as_user("pin", "mid")
    assert (denied.returncode, "KI917" in denied.stderr) == (1, True)
    listed = as_user("list")
    assert (listed.returncode, "gaming" in listed.stdout) == (0, True)
    assert as_user("unlock", "rtx5080").returncode == 0
    for one in read_only:
        one.chmod(0o755)


def test_units_on_a_card_are_known(site: GpuSite) -> None:
    assert site.units_on("rtx5080") == (CODE_MAX,)
