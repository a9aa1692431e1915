"""Scores of our services: every one is within the limit by systemd's own word, and plan reckons what systemd says."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from kloros_infra.adapters.generated_folder import update_folder
from kloros_infra.adapters.systemd_analyze import SystemdAnalyze, check_exposure
from kloros_infra.cli.project import read_project
from kloros_infra.cli.wiring import compile_project
from kloros_infra.compiler.emit_launcher import launcher
from kloros_infra.compiler.unit_lines import without
from kloros_infra.diagnostics import Problems
from kloros_infra.ir.artifact import ArtifactTree, TextFile
from kloros_infra.ir.config_services import SandboxSpec
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.relaxation import SandboxDirective
from kloros_infra.planner.exposure import exposure
from tests.emit_cases import EMIT_CASES, compile_case
from tests.needed import need

CHECKOUT = Path(__file__).parents[2]
PROJECTS = sorted([CHECKOUT / "models.yaml", *(CHECKOUT / "examples").glob("*/models.yaml")])
LIMIT = 1.5
# Of each kind one, with and without a card; and one whose arguments need system calls of their own.
PATTERNS = (
    "llama@chat-mid.service",
    "llama@chat-cpu_only.service",
    "kloros-router.service",
    "kloros-dirty.service",
    "kloros-gpu.service",
    "kloros-gpu-nodes.service",
)


@pytest.fixture(scope="module")
def analyze() -> SystemdAnalyze:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    return SystemdAnalyze()


def services_of(tree: ArtifactTree) -> dict[str, str]:
    layout = Layout()
    return {
        unit: artifact.text
        for path, artifact in tree.items()
        if isinstance(artifact, TextFile) and (unit := layout.unit_at(path)) and unit.endswith(".service")
    }


def scores(analyze: SystemdAnalyze, texts: Mapping[str, str], folder: Path) -> dict[str, float]:
    """Have systemd score texts, all in one call."""
    files = []
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text, "utf-8")
    found, problems = analyze.security(files)
    assert problems == ()
    return {name: one.score for name, one in found.items()}


def test_what_is_standard_is_the_limit_that_is_tested() -> None:
    assert SandboxSpec().security_threshold == LIMIT


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_every_service_of_a_project_is_within_the_limit(analyze: SystemdAnalyze, project: Path, tmp_path: Path) -> None:
    texts = services_of(compile_project(read_project(project)).tree)
    found = scores(analyze, texts, tmp_path)

    assert {"kloros-router.service", "kloros-profile.service"} < found.keys()
    assert any(name.startswith("llama@") for name in found)
    assert {name: score for name, score in found.items() if score > LIMIT} == {}
    assert found == {name: exposure(text) for name, text in texts.items()}


@pytest.mark.parametrize("case", EMIT_CASES, ids=lambda case: case.name)
def test_every_service_that_relaxes_nothing_is_within_the_limit(
    analyze: SystemdAnalyze, case: Path, tmp_path: Path
) -> None:
    texts = services_of(compile_case(case))
    # What only newer versions know would be left out by an older one, and cost what the older value closes.
    known = {name: as_of_252(text) for name, text in texts.items()}
    found = scores(analyze, known, tmp_path)

    asked = {name for name, text in texts.items() if "X-Kloros-Relaxed=" in text}
    assert {name: score for name, score in found.items() if score > LIMIT and name not in asked} == {}
    assert found == {name: exposure(text) for name, text in texts.items()}


def as_of_252(text: str) -> str:
    lines = text.replace("PrivateTmp=disconnected", "PrivateTmp=yes").replace("Groups=strict", "Groups=yes")
    return "".join(f"{line}\n" for line in lines.splitlines() if not line.startswith("Restart") or "Sec=2" in line)


def test_arguments_alone_never_take_a_service_over_the_limit(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    case = next(case for case in EMIT_CASES if case.name == "one_gpu")
    texts = {
        name: text.replace("~@privileged @resources", "~@privileged")
        for name, text in services_of(compile_case(case)).items()
    }
    found = scores(analyze, texts, tmp_path)

    assert max(found.values()) <= LIMIT
    assert found == {name: exposure(text) for name, text in texts.items()}


def test_plan_reckons_each_relaxation_as_systemd_does(analyze: SystemdAnalyze, tmp_path: Path) -> None:
    case = next(case for case in EMIT_CASES if case.name == "one_gpu")
    services = services_of(compile_case(case))
    texts = {
        f"{number}-{unit.replace('@', '_')}": without(services[unit], left_out)
        for unit in PATTERNS
        for number, left_out in enumerate(
            left_out
            for count in (0, 1, 2, len(SandboxDirective))
            for left_out in itertools.combinations(SandboxDirective, count)
        )
    }
    found = scores(analyze, texts, tmp_path)

    assert len(found) > 500
    assert {name: (found[name], exposure(text)) for name, text in texts.items() if found[name] != exposure(text)} == {}


@pytest.mark.parametrize(
    "text",
    [
        "[Service]\nExecStart=/bin/true\n",
        "[Service]\nExecStart=/bin/true\nUser=somebody\nUMask=0077\nProtectHome=tmpfs\nProtectProc=noaccess\n",
        "[Service]\nExecStart=/bin/true\nDynamicUser=yes\nCapabilityBoundingSet=\nIPAddressDeny=any\n",
        "[Service]\nExecStart=/bin/true\nCapabilityBoundingSet=\nPrivateDevices=yes\nProtectHome=read-only\n",
        "[Service]\nExecStart=/bin/true\nDevicePolicy=closed\nCapabilityBoundingSet=\nSystemCallFilter=@system-service\n",
    ],
)
def test_what_is_no_unit_of_ours_is_reckoned_nearly_so(analyze: SystemdAnalyze, text: str, tmp_path: Path) -> None:
    assert abs(scores(analyze, {"a.service": text}, tmp_path)["a.service"] - exposure(text)) < 0.15


def staged(root: Path, sandbox: str) -> Path:
    """Compile the smallest example with a sandbox of its own; give the folder of its units."""
    layout = Layout(prefix=str(root / "machine"))
    example = CHECKOUT / "examples" / "laptop"
    shutil.copytree(example, root / "project")
    file = root / "project" / "models.yaml"
    file.write_text(f"{file.read_text()}\nsandbox: {sandbox}\n")
    tree = compile_project(read_project(file), layout).tree
    programs = {layout.program_path(name): launcher("/bin/true", None, ()) for name in ("llama-server", "kloros-infra")}
    update_folder(root / "machine", {**tree, **programs})
    return root / "machine" / layout.units


def test_the_gate_refuses_what_is_relaxed_too_far_and_says_how_to_go_on(
    analyze: SystemdAnalyze, tmp_path: Path
) -> None:
    reason = "{directives: [SystemCallFilter], because: it is measured with perf}"
    units = sorted(staged(tmp_path, f"{{relax: [{reason}]}}").glob("*.service"))
    exposures, _ = analyze.security(units)
    problems: Problems = check_exposure(exposures, limit=LIMIT)

    assert {problem.code for problem in problems} == {"KI582"}
    assert all(str(problem.address).startswith("llama@") for problem in problems)
    assert all("sandbox.security_threshold" in problem.hint for problem in problems)
    assert check_exposure(exposures, limit=3.0) == ()
    assert analyze.verify(units) == ()
