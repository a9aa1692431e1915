"""The stations joined: what is handed on, what stops the line, and that nothing of this machine gets in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kloros_infra.adapters.generated_folder import differences
from kloros_infra.adapters.templates import read_templates
from kloros_infra.cli.project import read_project
from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.pipeline import check_prefix, checked, compile_project
from kloros_infra.compiler.sources import Sources
from kloros_infra.diagnostics import Diagnostic, Severity
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout

CHECKOUT = Path(__file__).parents[3]
PROJECTS = (CHECKOUT / "models.yaml", CHECKOUT / "examples" / "laptop" / "models.yaml")

# Compile and print every path, mode and text, from whatever folder this is run in.
PRINT_TREE = """
import sys
from pathlib import Path
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
for path, artifact in compile_project(read_project(Path(sys.argv[1]))).tree.items():
    print(path, artifact)
"""


def sources_of(file: Path) -> Sources:
    project = read_project(file)
    return Sources(project.text, str(file), project.lock_text, str(project.lock_file), project.headers)


def compiled(sources: Sources, prefix: str = "") -> Compiled:
    return compile_project(sources, read_templates(), layout=Layout(prefix=prefix))


def problem(severity: Severity) -> Diagnostic:
    return Diagnostic(code="KI999", summary="Test", detail="A test.", hint="None.", severity=severity)


@pytest.mark.parametrize("file", PROJECTS, ids=["root", "laptop"])
def test_a_project_compiles_whole(file: Path) -> None:
    result = compiled(sources_of(file))

    assert result.placements.keys() == {instance.id for instance in result.catalog.instances}
    assert all(not warning.is_error for warning in result.warnings)
    assert all(Layout().unit_path(instance.id.unit) in result.tree for instance in result.catalog.instances)


def test_generated_is_current() -> None:
    stale = differences(CHECKOUT / "generated", compiled(sources_of(CHECKOUT / "models.yaml")).tree)

    assert stale == (), "run `kloros-infra compile` and commit what it writes"


@pytest.mark.parametrize("file", PROJECTS, ids=["root", "laptop"])
def test_neither_folder_nor_hash_seed_nor_environment_show(file: Path, tmp_path: Path) -> None:
    def tree(folder: Path, seed: str, home: str) -> bytes:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": seed, "HOME": home}
        argv = [sys.executable, "-c", PRINT_TREE, os.path.relpath(file, folder)]
        return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, check=True).stdout

    deeper = tmp_path / "a" / "b"
    deeper.mkdir(parents=True)
    first = tree(tmp_path, "1", "/home/one")

    assert first.count(b"\n") > 10
    assert tree(deeper, "2", "/home/two") == first


def test_no_text_names_the_checkout() -> None:
    texts = [file.text for file in compiled(sources_of(PROJECTS[0])).tree.values() if isinstance(file, TextFile)]

    assert not [text for text in texts if str(CHECKOUT) in text or str(Path.home()) + "/" in text]


def test_without_a_lock_each_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(PROJECTS[1].read_text("utf-8"))

    with pytest.raises(ProblemsError) as caught:
        compiled(sources_of(file))
    assert [found.code for found in caught.value.problems if found.is_error] == ["KI301", "KI301"]


def test_a_broken_lock_stops_before_resolve(tmp_path: Path) -> None:
    sources = sources_of(PROJECTS[1])

    with pytest.raises(ProblemsError) as caught:
        compiled(Sources(sources.text, sources.file, "version: [", sources.lock_file, {}))
    assert {found.code for found in caught.value.problems} == {"KI101"}


def test_what_does_not_fit_is_reported_for_every_instance() -> None:
    sources = sources_of(PROJECTS[0])
    small = sources.text.replace("vram: 16GiB", "vram: 2GiB").replace("vram: 12GiB", "vram: 2GiB")
    small = small.replace("vram: 11GiB", "vram: 2GiB")

    with pytest.raises(ProblemsError) as caught:
        compiled(Sources(small, sources.file, sources.lock_text, sources.lock_file, sources.headers))
    misfits = [found for found in caught.value.problems if found.code.startswith("KI4") and found.is_error]
    assert len(misfits) > 3
    lines = small.splitlines()
    for found in misfits:
        assert found.span is not None
        assert lines[found.span.line - 1].strip().startswith(f"{found.address.rpartition('.')[2]}:")


def test_a_joint_lets_warnings_through_and_stops_at_errors() -> None:
    warning, error = problem(Severity.WARNING), problem(Severity.ERROR)

    assert checked((1, (warning,)), (warning,)) == (1, (warning, warning))
    with pytest.raises(ProblemsError) as caught:
        checked((1, (error,)), (warning,))
    assert caught.value.problems == (warning, error)


def test_a_pass_that_gives_nothing_must_say_why() -> None:
    with pytest.raises(AssertionError, match="gives a value"):
        checked((None, ()))


@pytest.mark.parametrize("prefix", ["", "/srv/kloros", "/home/jürgen/kloros-1.0", "/a:b/c@d", "/a,b=c"])
def test_a_prefix_of_plain_characters_is_usable(prefix: str) -> None:
    assert check_prefix(prefix) == ()


@pytest.mark.parametrize(
    "prefix", ["relative", "/", "/a/", "/a//b", "/a b", "/a%b", "/a*", "/[a]", "/a'b", '/a"b', "/a\\", "/a\nb", "/$a"]
)
def test_a_prefix_that_unit_files_would_read_otherwise_is_refused(prefix: str) -> None:
    assert [found.code for found in check_prefix(prefix)] == ["KI590"]
    with pytest.raises(ProblemsError):
        compiled(sources_of(PROJECTS[1]), prefix)
