"""The overrider is asked once for each question, and its answers are kept beside the lock."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.commands.lock_command import command
from kloros_infra.cli.overriding import Recorded, check_answers, record_answers
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compiler_sources
from kloros_infra.compiler.stations import check_project
from kloros_infra.diagnostics import Problems
from kloros_infra.errors import ObstacleError, ProblemsError

TOOL = [sys.executable, str(Path(__file__).parents[2] / "fakes" / "tensor_overrider.py")]
# Answers the first question, and fails at every other one.
ONE_ANSWER = """
import os, runpy, sys
if "--version" not in sys.argv:
    if os.path.exists(sys.argv[1]):
        sys.exit("no room")
    open(sys.argv[1], "w").close()
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NO_TOOL = [sys.executable, "-c", "import sys; sys.exit('no room')"]
GPUS = {"rtx3060": ("04", "12GiB"), "other": ("05", "8GiB")}


class Site:
    """A project with one model on cards; its weights are nowhere, and its header is derived."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "models.yaml"
        self.settings: dict[str, object] = {"placement": "overrider"}
        self.profiles = {"max": ["rtx3060"]}
        self.tool: list[str] | None = TOOL
        self.purpose = "small"

    def write(self) -> None:
        """Write models.yaml as it is to be by now."""
        host = {"role": "local"} if self.tool is None else {"role": "local", "tensor_overrider": self.tool}
        model = {
            "id": "small",
            "purpose_tags": ["fast"],
            "context_tokens": 2048,
            "current_version": "1",
            "versions": [
                {
                    "version_id": "1",
                    "gguf_url": "file:///weights/absent.gguf",
                    "architecture": "qwen2.5-0.5b",
                    "quantization": "Q4_0",
                }
            ],
            "profiles": {name: {"port": 8601 + place} for place, name in enumerate(self.profiles)},
            **self.settings,
        }
        gpu = {"host": "box", "bandwidth": "360GB/s", "compute_capability": "8.6"}
        config = {
            "version": 1,
            "hosts": {"box": host},
            "gpus": {name: {**gpu, "pci": f"0000:{bus}:00.0", "vram": vram} for name, (bus, vram) in GPUS.items()},
            "profiles": {name: {"gpus": cards} for name, cards in self.profiles.items()},
            "models": [model],
            "purposes": {"fast": {"candidates": [self.purpose], "default": True}},
        }
        self.file.write_text(yaml.safe_dump(config))

    def lock(self, *options: str) -> Result:
        """Run `kloros-infra lock`."""
        self.write()
        return CliRunner().invoke(command, ["--file", str(self.file), *options])

    def record(self, *, is_refresh: bool = False) -> tuple[int, Problems]:
        """Ask, where the lock is there already."""
        self.write()
        recorded = record_answers(read_project(self.file), is_refresh=is_refresh)
        return recorded.asked, recorded.problems

    def check(self) -> list[str]:
        """Say what the records lack."""
        self.write()
        return [problem.code for problem in check_answers(read_project(self.file))]

    @property
    def records(self) -> dict[str, str]:
        folder = self.file.parent / "models.lock" / "overrider"
        return {file.name: file.read_text() for file in sorted(folder.glob("*"))}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lock a project once; the overrider was asked."""
    site = Site(tmp_path_factory.mktemp("site"))
    result = site.lock()
    assert result.exit_code == 0, result.output
    assert "1 derived" in result.output
    assert "the overrider asked 1 times" in result.output
    return site.file.parent


@pytest.fixture
def site(locked: Path, tmp_path: Path) -> Site:
    """Give a copy of the locked project."""
    shutil.copytree(locked, tmp_path, dirs_exist_ok=True)
    return Site(tmp_path)


def test_lock_records_what_compile_follows(site: Site) -> None:
    (record,) = site.records.values()
    assert list(site.records) == ["small-max.json"]
    assert json.loads(record)["tool"] == "1.0.0"
    assert json.loads(record)["output"].startswith('-ngl 0 -ot "token_embd.weight=CPU" ')

    checked = check_project(compiler_sources(read_project(site.file)))

    (placement,) = checked.placements.values()
    assert placement.engine == "overrider"
    assert placement.layer_devices == ("CUDA0",) * 25


def test_what_was_answered_is_not_asked_again(site: Site) -> None:
    before = site.records
    site.tool = NO_TOOL

    assert site.record() == (0, ())
    assert site.check() == []
    assert site.records == before


def test_another_question_is_asked(site: Site) -> None:
    site.settings["context_tokens"] = 4096
    assert site.check() == ["KI420"]

    assert site.record() == (1, ())

    assert site.check() == []


def test_everything_is_asked_again_when_that_is_wanted(site: Site) -> None:
    assert site.record(is_refresh=True) == (1, ())


def test_an_answer_serves_all_that_ask_the_same(site: Site) -> None:
    site.profiles["mid"] = ["rtx3060"]
    site.profiles["both"] = ["rtx3060", "other"]
    site.profiles["less"] = ["other"]

    # What `mid` asks is answered for `max` already.
    assert site.record() == (2, ())
    assert list(site.records) == ["small-both.json", "small-less.json", "small-max.json", "small-mid.json"]


def test_records_that_nobody_needs_any_more_go(site: Site) -> None:
    site.settings["placement"] = "auto"

    assert site.record() == (0, ())
    assert site.records == {}


def test_without_a_program_it_is_said_where_to_name_one(site: Site) -> None:
    site.tool = None
    site.settings["context_tokens"] = 4096
    before = site.records

    count, (problem,) = site.record()

    assert (count, problem.code) == (0, "KI426")
    assert problem.span is not None
    # The answer to an earlier question stays: it tells what has changed.
    assert site.records == before


def test_a_tool_that_fails_is_reported_for_each_instance(site: Site) -> None:
    site.tool = NO_TOOL
    site.profiles["both"] = ["rtx3060", "other"]

    count, (problem,) = site.record()

    assert (count, problem.code, problem.address) == (0, "KI427", "models.small.profiles.both")
    assert "no room" in problem.detail
    assert list(site.records) == ["small-max.json"]


def test_each_question_counts_and_each_file_that_changed(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "tool.py"
    program.write_text(ONE_ANSWER)
    site.tool = [sys.executable, str(program), str(tmp_path / "asked"), TOOL[-1]]
    site.profiles = {"max": ["rtx3060"], "both": ["rtx3060", "other"], "less": ["other"]}

    result = site.lock()

    assert result.exit_code == 1
    assert "1 files changed, the overrider asked 2 times" in result.output


def test_a_tool_that_does_not_answer_is_asked_once(site: Site, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    site.tool = ["sh", "-c", f'echo >>{calls}; [ "$1" = --version ] && echo 1 || exec sleep 600', "tool"]
    site.profiles |= {"both": ["rtx3060", "other"], "less": ["other"]}
    site.write()

    recorded = record_answers(read_project(site.file), timeout_s=0.5)

    assert (recorded.asked, [problem.code for problem in recorded.problems]) == (1, ["KI427", "KI427"])
    assert "has not answered for 0.5 s" in recorded.problems[0].detail
    assert "is not asked again" in recorded.problems[1].detail
    assert calls.read_text().count("\n") == 2, "its version, and one question"


def test_a_type_that_no_file_can_have_is_reported(site: Site) -> None:
    header, lock = site.file.parent / "models.lock" / "small@1.json", site.file.parent / "models.lock.yaml"
    before = header.read_text()
    header.write_text(before.replace("Q4_0", "Q9_9"))
    old, new = (hashlib.sha256(text.encode()).hexdigest() for text in (before, header.read_text()))
    lock.write_text(lock.read_text().replace(old, new))

    count, (problem,) = site.record()

    assert (count, problem.code) == (0, "KI427")
    assert "was not asked: nobody here knows the type Q9_9" in problem.detail


def test_a_record_that_cannot_be_read_is_written_anew(site: Site) -> None:
    file = site.file.parent / "models.lock" / "overrider" / "small-max.json"
    file.write_text("{}")
    assert site.check() == ["KI421"]

    assert site.record() == (1, ())

    assert site.check() == []


def test_lock_ends_with_an_error_where_an_answer_is_missing(site: Site) -> None:
    site.tool = NO_TOOL

    refreshed = site.lock("--refresh")

    assert refreshed.exit_code == 1
    assert "KI427" in refreshed.output


def test_lock_check_tells_of_missing_answers(site: Site) -> None:
    assert site.lock("--check").exit_code == 0
    for name in site.records:
        (site.file.parent / "models.lock" / "overrider" / name).unlink()

    checked = site.lock("--check")

    assert isinstance(checked.exception, ProblemsError)
    assert "KI403" in {problem.code for problem in checked.exception.problems}


def test_a_models_yaml_with_other_errors_asks_nothing(site: Site) -> None:
    site.purpose = "smal"
    site.settings["context_tokens"] = 4096

    assert site.record() == (0, ())
    assert site.check() == []

    site.write()
    site.file.write_text(site.file.read_text().replace("context_tokens: 4096", "context_tokens: many"))
    assert record_answers(read_project(site.file)) == Recorded()


def test_a_folder_in_the_way_is_named(site: Site) -> None:
    file = site.file.parent / "models.lock" / "overrider" / "small-max.json"
    file.unlink()
    file.mkdir()

    with pytest.raises(ObstacleError) as caught:
        site.record()

    assert caught.value.problems[0].code == "KI125"
