"""`validate` as people, programs and forges run it: what is on which stream, and how it exits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import LAPTOP, Laptop, kloros_infra

FORMS = ("--json", "--sarif", "--github")
STATIONS = ["read", "compose", "values", "lock", "checks", "resolve", "place", "llama-server"]


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """Copy the example as it is: nothing of it is started, so that its ports need not be free."""
    shutil.copytree(LAPTOP, tmp_path / "project")
    return Laptop(tmp_path / "project", tmp_path / "root")


def break_it(laptop: Laptop) -> None:
    """Ask for a model that is not there, and take the header of one that is."""
    text = laptop.file.read_text()
    assert "base_model: smollm2" in text
    laptop.file.write_text(text.replace("base_model: smollm2", "base_model: smolm2"))
    next((laptop.folder / "models.lock").glob("gemma3*")).unlink()


@pytest.mark.parametrize("form", FORMS)
def test_a_valid_project_leaves_standard_error_empty(laptop: Laptop, form: str) -> None:
    done = laptop.run("validate", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" if form == "--github" else json.loads(done.stdout)


def test_text_says_that_it_is_valid_on_standard_output(laptop: Laptop) -> None:
    done = laptop.run("validate")
    assert (done.returncode, done.stdout) == (0, f"{laptop.file}: valid. 2 models, 2 instances.\n")


def test_every_form_tells_the_problems_of_all_stations(laptop: Laptop) -> None:
    break_it(laptop)
    text = laptop.run("validate")
    document, sarif, commands = (laptop.run("validate", form) for form in FORMS)
    told = [(one["code"], one["line"]) for one in json.loads(document.stdout)["diagnostics"]]
    results = json.loads(sarif.stdout)["runs"][0]["results"]
    regions = [one["locations"][0]["physicalLocation"]["region"] for one in results]
    annotations = re.findall(r"^::error file=[^:]*,line=(\d+),col=\d+,title=(KI\d+) ", commands.stdout, re.MULTILINE)

    assert [one.returncode for one in (text, document, sarif, commands)] == [1] * 4
    assert [one.stderr for one in (document, sarif, commands)] == [""] * 3
    assert text.stdout == ""
    assert [code for code, _ in told] == ["KI305", "KI206"]
    assert [(one["ruleId"], at["startLine"]) for one, at in zip(results, regions, strict=True)] == told
    assert [(code, int(line)) for line, code in annotations] == told
    assert all(f":{line}:" in text.stderr and f"error {code}" in text.stderr for code, line in told)
    assert text.stderr.endswith("2 errors\n")


def test_a_file_that_is_not_there_is_a_problem_in_every_form(tmp_path: Path) -> None:
    for form in FORMS:
        done = kloros_infra("validate", "--file", tmp_path / "models.yaml", form)
        assert (done.returncode, done.stderr) == (1, "")
        assert "KI100" in done.stdout


def test_warnings_fail_only_where_that_is_asked_for(laptop: Laptop) -> None:
    laptop.edit(lambda document: document.pop("purposes"))
    laptop.edit(lambda document: document.update(gpus={"spare": SPARE}, hosts={"laptop": {"role": "local"}}))
    lax, strict = laptop.run("validate"), laptop.run("validate", "--strict")

    assert (lax.returncode, strict.returncode) == (0, 1)
    assert "warning KI224" in lax.stderr
    assert "valid." in lax.stdout


SPARE = {
    "host": "laptop",
    "uuid": "GPU-5a2b3c4d-0000-1111-2222-333344445555",
    "vram": "12GiB",
    "bandwidth": "360GB/s",
    "compute_capability": "8.6",
}


def test_a_flood_of_problems_is_shown_whole_and_counted_by_code(laptop: Laptop) -> None:
    def flood(document: dict[str, object]) -> None:
        candidates = [f"nobody-{number}" for number in range(250)]
        document["purposes"] = {"fast": {"candidates": candidates, "default": True}}
        document["personas"] = []

    laptop.edit(flood)
    text, document = laptop.run("validate"), laptop.run("validate", "--json")

    assert text.stderr.count("error KI206") == 250
    assert "\n  250  KI206 Unknown model\n" in text.stderr
    assert json.loads(document.stdout)["errors"] == 250


def test_each_stations_time_and_share_are_told(laptop: Laptop) -> None:
    table, document = laptop.run("validate", "--timings"), laptop.run("validate", "--timings", "--json")
    rows = [line.split() for line in table.stderr.splitlines()]
    timings = json.loads(document.stdout)["timings"]

    assert [row[0] for row in rows] == [*STATIONS, "all"]
    assert all(float(row[1]) >= 0 and row[2] == "ms" and row[3].endswith("%") for row in rows)
    assert [one["station"] for one in timings] == STATIONS
    assert sum(one["share"] for one in timings) == pytest.approx(1, abs=0.001)
    assert "all" in document.stderr


HELP = """----- common params -----

-t,    --threads N                      number of CPU threads to use
"""


def test_options_are_held_to_the_llama_server_that_is_there(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(laptop.folder / "cache"))
    known = laptop.folder / "llama-server"
    known.write_text(f"#!/bin/sh\ncat <<'EOF'\n{HELP}EOF\n")
    known.chmod(0o755)

    def with_options(document: dict[str, object]) -> None:
        document["defaults"] = {"arguments": {"threads": 4, "treads": 8}}
        document["hosts"] = {"laptop": {"llama_server": str(known)}}

    laptop.edit(with_options)
    asked = laptop.run("validate")
    assert asked.returncode == 1
    assert "KI258" in asked.stderr
    assert "Did you mean 'threads'?" in asked.stderr

    known.unlink()
    unasked = laptop.run("validate")
    assert unasked.returncode == 0
    assert "warning KI260" in unasked.stderr


def test_it_needs_neither_templates_nor_path_nor_home(laptop: Laptop) -> None:
    """What would be needed to run anything is not there: no PATH to find a program on, no templates to emit from."""
    script = (
        "import sys; sys.modules['jinja2'] = None; sys.modules['pynvml'] = None; sys.modules['jeepney'] = None\n"
        "from kloros_infra.cli.program import main; main()"
    )
    argv = [sys.executable, "-c", script, "validate", "--file", str(laptop.file)]
    done = subprocess.run(argv, env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False, cwd=os.sep)
    assert (done.returncode, done.stderr) == (0, "")
