"""Generations over real files and services: history, rollback, collection, and how destroy ends."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from kloros_infra.adapters.this_boot import boot_id
from kloros_infra.cli.changing import Manner
from kloros_infra.cli.generation_list import list_generations
from kloros_infra.cli.history import desired_at, recover, roll_back, would_roll_back
from kloros_infra.cli.old_generations import collect
from kloros_infra.cli.wiring import Target, generations_of, leave, stop_supervisor
from kloros_infra.errors import LeftBehindError, ObstacleError, RolledBackError
from kloros_infra.executor.generations import former_generation, read_generation
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.routing import SCHEMA_VERSION
from kloros_infra.planner.desired import nothing_desired
from tests.integration.conftest import kloros_infra
from tests.tiny_site import ALL, ONE, QUIETLY, TWO, apply_quietly, broken, current, running, tiny, tree_of


def test_rollback_goes_back_and_restarts_only_what_differs(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    apply_quietly(tiny(where, ONE, note="one"), where)
    first = {path: text for path, text in tree_of(where.root).items() if not path.startswith(("var", "run"))}
    apply_quietly(tiny(where, TWO, note="two"), where)
    assert running(where, ALL) == TWO
    capsys.readouterr()
    roll_back(where, None, Manner("?", yes=True))
    shown = capsys.readouterr()
    assert "Going to generation 1." in shown.out
    assert "kloros-a" in shown.out
    assert "restart kloros-a.service" in shown.err
    assert "restart kloros-b.service" not in shown.err
    assert running(where, ALL) == ONE
    now = {path: text for path, text in tree_of(where.root).items() if not path.startswith(("var", "run"))}
    assert {path: text for path, text in now.items() if "generations/2" not in path} == first
    roll_back(where, 2, QUIETLY)
    assert running(where, ALL) == TWO
    with pytest.raises(ObstacleError) as caught:
        desired_at(where, 9)
    assert caught.value.problems[0].code == "KI587"


def test_generations_are_listed_with_marks_and_what_changed(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    list_generations(where)
    assert "no generations yet" in capsys.readouterr().out
    for site in (ONE, TWO, {**TWO, "kloros-new.service": "1"}):
        apply_quietly(tiny(where, site), where)
    capsys.readouterr()
    list_generations(where)
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    assert "changed kloros-a" in rows[2]
    assert "current, last-good" in rows[3]
    assert "added kloros-new" in rows[3]
    list_generations(where, as_json=True)
    version, *rows_as_json = map(json.loads, capsys.readouterr().out.splitlines())
    assert version["type"] == "version"
    assert [(row["number"], row["marks"]) for row in rows_as_json] == [(1, []), (2, []), (3, ["current", "last-good"])]


def test_a_rollback_can_be_looked_at_first(where: Target) -> None:
    for site in (ONE, TWO):
        apply_quietly(tiny(where, site), where)
    words = ("rollback", "--root", where.root, "--dry-run")
    shown = kloros_infra(*words)
    assert shown.returncode == 2, shown.stderr
    assert "service.kloros-a must be restarted" in shown.stdout
    assert current(where) == 2
    assert kloros_infra(*words[:1], "2", *words[1:]).returncode == 0
    rows = kloros_infra("diff", "--root", where.root, "--json").stdout.splitlines()
    assert json.loads(rows[0])["type"] == "version"
    assert any(json.loads(row).get("address") == "service.kloros-a" for row in rows)


def test_what_another_release_made_is_not_gone_back_to(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    for site, version in ((ONE, SCHEMA_VERSION - 1), (TWO, SCHEMA_VERSION)):
        desired = tiny(where, site)
        table = TextFile(json.dumps({"version": version}))
        apply_quietly(replace(desired, tree={**desired.tree, where.layout.routing: table}), where)
    with pytest.raises(ObstacleError) as caught:
        roll_back(where, 1, QUIETLY)
    assert [problem.code for problem in caught.value.problems] == ["KI566"]
    assert "Generation 1 has a routing table of version 1" in caught.value.problems[0].detail
    assert (running(where, ALL), current(where)) == (TWO, 2)
    capsys.readouterr()
    assert would_roll_back(where, 1)
    assert "KI566" in capsys.readouterr().out
    roll_back(where, 2, QUIETLY)


def test_a_failing_apply_goes_back_by_itself_and_says_so(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    before = tree_of(where.root / "etc")
    with pytest.raises(RolledBackError) as caught:
        apply_quietly(broken(where, TWO), where)
    assert caught.value.exit_code == 3
    assert caught.value.problems[-1].code == "KI585"
    assert "Generation 1 is current" in caught.value.problems[-1].detail
    assert running(where, ALL) == ONE
    assert tree_of(where.root / "etc") == before


def test_a_damaged_generation_is_not_gone_to(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    env = next((where.root / where.layout.generation_path(1) / "env").iterdir())
    env.write_text("VERSION='0'\n")
    with pytest.raises(ObstacleError) as caught:
        roll_back(where, 1, QUIETLY)
    assert caught.value.problems[0].code == "KI588"
    assert env.name in caught.value.problems[0].detail
    assert current(where) == 2


def test_a_changed_file_of_the_current_generation_is_put_back_into_it(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    unit = where.root / where.layout.unit_path("kloros-a.service")
    unit.write_text(unit.read_text() + "Restart=always\n")
    assert apply_quietly(tiny(where, ONE), where)
    assert current(where) == 1
    assert "Restart" not in unit.read_text()
    assert read_generation(generations_of(where), 1).manifest.number == 1


def test_a_rollback_passes_over_what_is_damaged_or_the_same(where: Target) -> None:
    for names in (ONE, TWO, ONE):
        apply_quietly(tiny(where, names), where)
    generations = generations_of(where)
    same = {name: generations.read(3, name) for name in ("manifest.json", *read_generation(generations, 3).files)}
    generations.stage(4, {name: artifact for name, artifact in same.items() if artifact is not None})
    generations.flip(4)
    assert former_generation(generations, 4) == 2
    damaged = where.root / where.layout.generation_path(2) / "units" / "kloros-a.service"
    damaged.write_text("[Service]\n")
    assert former_generation(generations, 4) is None
    with pytest.raises(ObstacleError) as caught:
        roll_back(where, None, QUIETLY)
    assert [problem.code for problem in caught.value.problems] == ["KI591"]
    generations.flip(3)


def test_a_changed_fixed_file_is_mended_without_a_new_one(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    (where.root / where.layout.tmpfiles).write_text("mine\n")
    assert apply_quietly(tiny(where, ONE), where)
    assert current(where) == 1


def test_recover_goes_to_the_last_good_one_when_the_current_does_not_start(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    stop_supervisor(where)
    generations_of(where).mark_last_good(1)
    (where.root / where.layout.program_path("sleeper")).unlink()
    with pytest.raises(LeftBehindError) as caught:
        recover(where, QUIETLY)
    assert [problem.code for problem in caught.value.problems] == ["KI588", "KI592"]
    assert caught.value.exit_code == 4
    assert current(where) == 1
    assert running(where, ALL) == ONE


def test_gc_keeps_the_newest_and_every_marked_one(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    for version in range(1, 7):
        apply_quietly(tiny(where, {"kloros-a.service": str(version)}), where)
    roll_back(where, 2, QUIETLY)
    (where.root / where.layout.booted_file).write_text(f"1 {boot_id()}\n")
    collect(where, 1, yes=True, is_dry_run=True)
    assert generations_of(where).history().numbers == (1, 2, 3, 4, 5, 6)
    collect(where, 1, yes=True, is_dry_run=False)
    assert generations_of(where).history().numbers == (1, 2, 6)
    capsys.readouterr()
    collect(where, 1, yes=True, is_dry_run=False)
    assert "nothing to remove" in capsys.readouterr().out


def test_apply_itself_keeps_no_more_than_it_is_told(where: Target) -> None:
    for version in range(1, 14):
        apply_quietly(tiny(where, {"kloros-a.service": str(version)}), where)
    assert generations_of(where).history().numbers == tuple(range(4, 14))


def test_a_current_generation_whose_folder_is_gone_is_made_anew(where: Target) -> None:
    apply_quietly(tiny(where, ONE), where)
    shutil.rmtree(where.root / where.layout.generation_path(1))
    with pytest.raises(ObstacleError) as caught:
        recover(where, QUIETLY)
    assert [problem.code for problem in caught.value.problems] == ["KI587"]
    apply_quietly(tiny(where, ONE), where)
    assert current(where) == 2
    assert running(where, ALL) == ONE


def test_a_damaged_manifest_is_replaced_by_the_next_apply(where: Target, capsys: pytest.CaptureFixture[str]) -> None:
    apply_quietly(tiny(where, ONE), where)
    manifest = where.root / where.layout.generation_path(1) / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    list_generations(where)
    assert "its manifest is damaged" in capsys.readouterr().out
    with pytest.raises(ObstacleError) as caught:
        recover(where, QUIETLY)
    assert [problem.code for problem in caught.value.problems] == ["KI588"]
    apply_quietly(tiny(where, ONE), where)
    assert current(where) == 2
    recover(where, QUIETLY)
    assert running(where, ALL) == ONE


def test_destroy_returns_a_root_to_what_it_was_byte_for_byte(where: Target) -> None:
    for folder in ("etc/tmpfiles.d", "etc/systemd", "var/lib"):
        (where.root / folder).mkdir(parents=True)
    (where.root / "etc/tmpfiles.d/theirs.conf").write_text("d /run/theirs\n")
    (where.root / "etc/motd").symlink_to("issue")
    before = tree_of(where.root)
    apply_quietly(tiny(where, ONE), where)
    apply_quietly(tiny(where, TWO), where)
    with pytest.raises(RolledBackError):
        apply_quietly(broken(where, TWO), where)
    apply_quietly(nothing_desired(where.layout, with_weights=True), where)
    stop_supervisor(where)
    leave(where)
    assert tree_of(where.root) == before
