"""systemd's own tools read every generated unit: nothing unknown, nothing ignored, little exposed.

None of them needs a running systemd. Where continuous integration runs (CI is set), their absence is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kloros_infra.adapters.generated_folder import update_folder
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
from kloros_infra.compiler.emit_launcher import launcher
from kloros_infra.compiler.systemd_syntax import env_lines, exec_start, unit_value
from kloros_infra.ir.artifact import Artifact, TextFile
from kloros_infra.ir.layout import Layout
from tests.needed import need

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
PROJECTS = {"root": CHECKOUT / "models.yaml", **{path.parent.name: path for path in EXAMPLES.glob("*/models.yaml")}}
EXPOSURE_LIMIT = "15"
"""1.5 of 10; the unit of the design document scores 8.5."""
ENVIRONMENT_READER = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
"""Reads files by the rules of EnvironmentFile= and prints what it read; it also expands `$`, which units do not."""

# No surrogates and no controls; what is special to some parser comes often.
TEXT = st.text(
    st.one_of(st.sampled_from(" '\"\\%;#=`*-{}é“ab"), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])),
    max_size=30,
)


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; skip the test where there is none, but not in continuous integration."""
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    argv = ["systemd-analyze", *map(str, words)]
    return subprocess.run(
        argv, capture_output=True, encoding="utf-8", check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )


@pytest.fixture(scope="module", params=sorted(PROJECTS))
def units(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a project as for a real root, but with stand-ins for the programs; give the folder of its units."""
    folder, layout = tmp_path_factory.mktemp(request.param), Layout()
    tree = compile_project(read_project(PROJECTS[request.param])).tree
    programs = {layout.program_path(name): launcher("/bin/true", None, ()) for name in ("llama-server", "kloros-infra")}
    update_folder(folder, {**{path: with_programs_in(folder, one) for path, one in tree.items()}, **programs})
    return folder / layout.units


def with_programs_in(folder: Path, artifact: Artifact) -> Artifact:
    programs = f"/{Layout().programs}/"
    if isinstance(artifact, TextFile):
        return replace(artifact, text=artifact.text.replace(programs, f"{folder}{programs}"))
    return artifact


def test_every_unit_is_accepted_without_a_word(units: Path) -> None:
    files = sorted(file for file in units.iterdir() if file.suffix in (".service", ".target", ".path", ".timer"))
    checked = analyze("verify", "--recursive-errors=no", "--man=no", *files)

    assert len(files) > 5
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("NoNewPrivileges=", "NoNewPrivilege="),
        ("MemoryMax=", "MemoryMax=lots of "),
        ("/bin/llama-server", "/bin/absent"),
    ],
)
def test_the_check_sees_a_misspelt_key_a_bad_value_and_a_missing_program(
    units: Path, tmp_path: Path, before: str, after: str
) -> None:
    file = next(iter(sorted(units.glob("llama@*.service"))))
    broken = tmp_path / file.name
    broken.write_text(file.read_text("utf-8").replace(before, after), "utf-8")

    assert analyze("verify", "--recursive-errors=no", "--man=no", broken).returncode == 1


def test_every_service_is_little_exposed(units: Path) -> None:
    for file in sorted(units.glob("*.service")):
        scored = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", "--no-pager", file)
        assert scored.returncode == 0, scored.stdout


def decoded_programs(words: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Have systemd complain about programs that do not exist: the message holds the word as it was read."""
    for word in words:
        file = folder / "x.service"
        file.write_text(f"[Service]\nExecStart={exec_start((word,))}\n", "utf-8")
        message = analyze("verify", "--recursive-errors=no", "--man=no", file).stderr
        found = re.search(r"special characters: (.*)$|Command (.*) is not executable: ", message, re.MULTILINE)
        assert found, message
        yield found[1] or found[2]


@settings(max_examples=40, deadline=None)  # each example starts a process
@example('it\'s 100% "so" \\d $HOME ${X} ; é')
@given(TEXT.filter(lambda text: "/" not in text))
def test_systemd_reads_words_back_as_they_were_meant(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    word = f"/nowhere/x{text}x"

    assert list(decoded_programs((word,), tmp_path_factory.mktemp("words"))) == [word]


@settings(max_examples=40, deadline=None)  # each example starts a process
@example('it\'s 100% "so" \\d ; é')
@given(TEXT)
def test_systemd_reads_env_values_back_as_they_were_meant(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    need(ENVIRONMENT_READER.exists(), str(ENVIRONMENT_READER))
    folder = tmp_path_factory.mktemp("env")
    (folder / "environment.d").mkdir()
    lines = "".join(f"{line}\n" for line in env_lines({"KLOROS_A": text, "KLOROS_B": "1"}))
    (folder / "environment.d" / "x.conf").write_text(lines, "utf-8")
    printed = subprocess.run(
        [ENVIRONMENT_READER], capture_output=True, encoding="utf-8", check=True, env={"XDG_CONFIG_HOME": str(folder)}
    ).stdout

    # It prints assignments for a shell: let one read them.
    script = f'{printed}\nprintf "%s|%s" "$KLOROS_A" "$KLOROS_B"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, encoding="utf-8", check=True, env={})
    assert shell.stdout == f"{text}|1"


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "%h", "q\"uo'te", "back\\slash d", "$HOME", "é“", "a;b#c"])
def test_systemd_reads_settings_back_as_they_were_meant(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    found = analyze("condition", f"AssertPathIsDirectory={unit_value(str(tmp_path / name))}")
    absent = analyze("condition", f"AssertPathIsDirectory={unit_value(str(tmp_path / name))}x")
    assert (found.returncode, absent.returncode) == (0, 1)
