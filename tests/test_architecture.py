"""The rules of the house hold: import directions, sizes, and a contract that fails when it is broken."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "kloros_infra"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# One violation for each contract: the file it is planted in, and the line.
VIOLATIONS = {
    "layers": ("ir/names.py", "import kloros_infra.cli.render"),
    "pure": ("planner/planted.py", "import subprocess"),
    "runtime": ("daemon/planted.py", "import kloros_infra.planner"),
    "compile_planner": ("compiler/planted.py", "import kloros_infra.planner"),
    "client": ("client/planted.py", "import kloros_infra.ir.names"),
}


def lint_imports(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    argv = [
        sys.executable,
        "-c",
        script,
        "--config",
        str(folder / "pyproject.toml"),
        "--contract",
        contract,
        "--no-cache",
    ]
    return subprocess.run(
        argv,
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copied_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(PACKAGE, folder / "kloros_infra", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    return folder


def test_every_contract_has_a_planted_violation() -> None:
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == VIOLATIONS.keys()


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_a_contract_holds_and_fails_on_its_planted_violation(copied_package: Path, contract: str) -> None:
    kept = lint_imports(copied_package, contract)
    assert kept.returncode == 0, kept.stdout + kept.stderr

    file, line = VIOLATIONS[contract]
    planted = copied_package / "kloros_infra" / file
    before = planted.read_text() if planted.exists() else None
    planted.write_text((before or "") + f"\n{line}\n")
    try:
        broken = lint_imports(copied_package, contract)
    finally:
        planted.unlink() if before is None else planted.write_text(before)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "BROKEN" in broken.stdout


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small_and_documented(source: Path) -> None:
    text = source.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(tree), f"{source} has no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 40, f"{source}:{node.lineno} {node.name} is too long"


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}
    assert not [source for source in SOURCES if source.stem in empty]


def test_every_diagnostic_code_is_documented_and_every_documented_code_exists() -> None:
    used = {code for source in SOURCES for code in re.findall(r'"(KI\d{3})"', source.read_text())}
    headings = re.findall(r"^### (KI\d{3}) \S", (CHECKOUT / "docs" / "diagnostics.md").read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert set(headings) == used
    assert headings == sorted(headings)


def test_no_page_keeps_a_note_to_its_authors() -> None:
    generated = ("<!-- Written by",)
    pages = {page.name: page.read_text() for page in (CHECKOUT / "docs").rglob("*.md")}
    assert {name for name, text in pages.items() if "<!--" in text and not text.startswith(generated)} == set()
    assert re.findall(r"\n\n\(.*", pages["diagnostics.md"]) == []


def test_nothing_names_the_machine_it_was_written_on() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    here = {str(CHECKOUT) + "/", str(Path.home()) + "/"}
    for name in filter(None, tracked.stdout.split("\0")):
        path = CHECKOUT / name
        if path.is_file():
            text = path.read_text(errors="replace")
            assert not [place for place in here if place in text], name
