"""The systemd generator, run on folders: what it links, what it leaves, and that it resolves `current` once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_generator import emit_generator
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout

CURRENT = Path("/", Layout().current)
Run = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """Name the link in a folder whose name needs care in a shell."""
    current = tmp_path / "it's $HOME" / Layout().current
    current.parent.mkdir(parents=True)
    return current


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    folder = tmp_path / "generated"
    folder.mkdir()
    return folder


def emitted(current: Path = CURRENT) -> TextFile:
    """Emit the generator that follows a link."""
    prefix = str(current).removesuffix(f"/{Layout().current}")
    ((path, artifact),) = emit_generator(rendering(read_templates(), Layout(prefix=prefix)))
    assert path == "etc/systemd/system-generators/kloros-infra"
    assert isinstance(artifact, TextFile)
    return artifact


@pytest.fixture
def run(current: Path, generated: Path, tmp_path: Path) -> Run:
    artifact = emitted(current)
    script = tmp_path / "generator"
    script.write_text(artifact.text)
    script.chmod(artifact.mode)

    def generator() -> subprocess.CompletedProcess[str]:
        # systemd gives three folders, and an environment with little in it.
        argv = [script, generated, tmp_path / "early", tmp_path / "late"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, env={}, cwd="/")

    return generator


def a_generation(folder: Path, *units: str, wants: dict[str, list[str]] | None = None) -> Path:
    """Make a generation of units that say which one they belong to."""
    home = folder / "units"
    home.mkdir(parents=True)
    for unit in units:
        (home / unit).write_text(f"# {folder.name}\n")
    for target, members in (wants or {}).items():
        (home / f"{target}.wants").mkdir()
        for member in members:
            (home / f"{target}.wants" / member).symlink_to(f"../{member}")
    return folder


def silent(done: subprocess.CompletedProcess[str]) -> bool:
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_units_and_what_wants_them_are_linked(run: Run, current: Path, generated: Path) -> None:
    units = ("kloros-llm.target", "kloros-router.service", "llama@code-max.service", "llama@a.b_c-mid.service")
    generation = a_generation(
        current.parent / "generations" / "7", *units, wants={"multi-user.target": ["kloros-llm.target"]}
    )
    current.symlink_to("generations/7")

    assert silent(run())

    assert {path.name for path in generated.iterdir()} == {*units, "multi-user.target.wants"}
    for unit in units:
        assert (generated / unit).readlink() == generation / "units" / unit
    wanted = generated / "multi-user.target.wants" / "kloros-llm.target"
    assert wanted.resolve() == generation / "units" / "kloros-llm.target"
    assert wanted.readlink().name == "kloros-llm.target"


def test_drop_ins_are_linked(run: Run, current: Path, generated: Path) -> None:
    a_generation(current, "a.service")
    (current / "units" / "a.service.d").mkdir()
    (current / "units" / "a.service.d" / "more.conf").write_text("[Service]\n")
    assert silent(run())
    assert (generated / "a.service.d" / "more.conf").resolve() == current / "units" / "a.service.d" / "more.conf"


def test_folders_of_other_generators_are_shared(run: Run, current: Path, generated: Path) -> None:
    a_generation(current, "a.target", wants={"multi-user.target": ["a.target"]})
    (generated / "multi-user.target.wants").mkdir()
    (generated / "multi-user.target.wants" / "other.service").symlink_to("/dev/null")

    assert silent(run())

    assert {path.name for path in (generated / "multi-user.target.wants").iterdir()} == {"a.target", "other.service"}


@pytest.mark.parametrize("what", ["nothing", "empty", "no units", "only other files"])
def test_where_there_is_nothing_it_does_nothing_and_says_nothing(
    run: Run, current: Path, generated: Path, what: str
) -> None:
    match what:
        case "empty":
            current.mkdir()
        case "no units":
            (current / "units").mkdir(parents=True)
        case "only other files":
            (current / "units" / "empty.target.wants").mkdir(parents=True)
            (current / "units" / "README").write_text("")
    assert silent(run())
    assert list(generated.iterdir()) == []


def test_a_generation_that_is_gone_is_told(run: Run, current: Path, generated: Path) -> None:
    current.symlink_to("generations/9")
    done = run()
    assert (done.returncode, done.stdout) == (0, "")
    assert "the current generation is not there" in done.stderr
    assert "kloros-infra recover" in done.stderr
    assert list(generated.iterdir()) == []


def test_a_link_to_nothing_keeps_no_other_unit_from_being_linked(run: Run, current: Path, generated: Path) -> None:
    a_generation(current, "b.service", "c.service")
    (current / "units" / "a.service").symlink_to("gone")
    assert silent(run())
    assert {path.name for path in generated.iterdir()} == {"a.service", "b.service", "c.service"}


def test_without_a_folder_it_does_nothing(run: Run, current: Path, tmp_path: Path) -> None:
    a_generation(current, "a.service")
    done = subprocess.run([tmp_path / "generator"], capture_output=True, text=True, check=False, env={}, cwd="/")
    assert silent(done)


def test_a_name_that_another_generator_took_is_said_and_the_rest_is_linked(
    run: Run, current: Path, generated: Path
) -> None:
    a_generation(current, "a.service", "b.service", "c.target")
    (generated / "a.service").write_text("taken")
    done = run()
    assert done.returncode == 0
    assert "a.service" in done.stderr
    assert (generated / "a.service").read_text() == "taken"
    assert {path.name for path in generated.iterdir()} == {"a.service", "b.service", "c.target"}


def test_a_thousand_units_take_no_time(run: Run, current: Path, generated: Path) -> None:
    units = [f"llama@model-{number}-max.service" for number in range(1000)]
    a_generation(current, *units, "kloros-llm.target", wants={"multi-user.target": ["kloros-llm.target"]})
    before = getrusage(RUSAGE_CHILDREN)
    assert silent(run())
    after = getrusage(RUSAGE_CHILDREN)
    assert len(list(generated.iterdir())) == 1002
    # A program for each would take far longer.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_a_switch_while_it_runs_is_seen_whole_or_not_at_all(run: Run, current: Path, generated: Path) -> None:
    units = [f"unit-{number}.service" for number in range(200)]
    for number in (1, 2):
        a_generation(current.parent / str(number), *units, "a.target", wants={"multi-user.target": ["a.target"]})
    current.symlink_to("1")
    with subprocess.Popen(("/bin/sh", "-c", FLIPS, "sh", current), stdout=subprocess.PIPE) as flipping:
        assert flipping.stdout is not None
        flipping.stdout.readline()
        try:
            seen = set()
            for _ in range(12):
                assert silent(run())
                links = [path for path in generated.rglob("*") if path.is_symlink()]
                (generation,) = {link.resolve().parents[1].name for link in links}
                assert len(links) == len(units) + 2
                seen.add(generation)
                shutil.rmtree(generated)
                generated.mkdir()
        finally:
            flipping.kill()
    assert seen <= {"1", "2"}


# Replaces the link again and again, in one step each time, as an apply does.
FLIPS = 'echo on; while :; do for g in 1 2; do ln -s $g "$1.new"; mv -T "$1.new" "$1"; done; done'


def test_it_names_neither_var_nor_home_and_sets_its_own_path() -> None:
    text = emitted().text
    code = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "/var" not in code
    assert "/home" not in code
    assert "PATH=/usr/bin:/bin" in code


def test_shells_agree_that_it_is_well_formed(tmp_path: Path) -> None:
    script = tmp_path / "generator"
    script.write_text(emitted().text)
    for shell in filter(None, map(shutil.which, ("sh", "dash", "bash", "busybox"))):
        words = [shell, "sh"] if shell.endswith("busybox") else [shell]
        assert silent(subprocess.run([*words, "-n", script], capture_output=True, text=True, check=False)), shell
    if (shellcheck := shutil.which("shellcheck")) is not None:
        checked = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
