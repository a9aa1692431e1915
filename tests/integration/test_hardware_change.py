"""A card with other memory than it was compiled for: planned once, shown, and applied where models.yaml says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml_scripted import ScriptedNvml, build
from tests.free_ports import free_ports
from tests.integration.conftest import SMOLLM2, Laptop, kloros_infra, only

pytestmark = pytest.mark.real_model

UUID = "GPU-5a2b3c4d-0000-1111-2222-333344445555"
GB = 10**9


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedNvml:
    """A driver that every process of the test asks."""
    found = ScriptedNvml(library, tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def site(laptop: Laptop, nvml: ScriptedNvml) -> Iterator[Laptop]:
    """An installation with a card of 12 GiB that is not there, and a model that is started on demand alone."""
    laptop.edit(only(SMOLLM2))
    laptop.edit(with_a_card)
    has(nvml, 12 * 2**30)
    assert laptop.run("lock").returncode == 0
    applied = laptop.apply()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    yield laptop
    laptop.destroy()


def with_a_card(document: dict[str, Any]) -> None:
    card = {"vram": "12GiB", "bandwidth": "360GB/s", "compute_capability": "8.6", "uuid": UUID, "pci": "0000:7f:00.0"}
    document["gpus"] = {"card": {"host": next(iter(document["hosts"])), **card}}
    document["profiles"] = {"max": {"gpus": ["card"]}, **document["profiles"]}
    for model in document["models"]:
        model["profiles"]["max"] = {"port": free_ports(1)[0]}
        model["preload"] = False


def with_less_context(document: dict[str, Any]) -> None:
    document["models"][0]["context_tokens"] = 1024


def has(nvml: ScriptedNvml, total_bytes: int) -> None:
    nvml.say(f"card uuid={UUID} pci=0000:7f:00.0 total={total_bytes} used=0")


def replan(site: Laptop) -> str:
    done = kloros_infra("gpu", "replan", "--root", site.root)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(site: Laptop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.root / "var/lib/kloros-infra/hardware.json").read_text())
    return found


def declared_mib(site: Laptop) -> int:
    table = json.loads((site.root / "etc/kloros-infra/current/routing.json").read_text())
    mib: int = table["profiles"][0]["cards"][0]["vram_mib"]
    return mib


def test_a_compile_takes_the_cards_as_they_are_where_that_is_wanted(laptop: Laptop, nvml: ScriptedNvml) -> None:
    laptop.edit(only(SMOLLM2))
    laptop.edit(with_a_card)
    has(nvml, 8 * GB)
    assert laptop.run("lock").returncode == 0
    mib = []
    for words in ((), ("--detected",)):
        done = laptop.run("compile", "--output", laptop.folder / "out", *words)
        assert done.returncode == 0, done.stderr
        table = json.loads((laptop.folder / "out/etc/kloros-infra/current/routing.json").read_text())
        mib.append(table["profiles"][0]["cards"][0]["vram_mib"])
    assert mib == [12 * 1024, 8 * GB // 2**20]

    nvml.say("init 12")
    assert "KI926" in laptop.run("plan", "--root", laptop.root, "--detected").stderr
    refused = laptop.run("plan", "--root", laptop.root, "--detected", "--destroy")
    assert (refused.returncode, "contradict" in refused.stderr) == (1, True)


def test_other_memory_is_planned_once_waits_and_is_applied_by_hand(site: Laptop, nvml: ScriptedNvml) -> None:
    assert "as they were compiled for" in replan(site)

    has(nvml, 8 * GB)
    plan = site.root / "var/lib/kloros-infra/hardware.plan"
    told = replan(site)
    assert "card has 7.5 GiB of memory, and was declared with 12.0 GiB." in told
    assert f"A plan that takes it up waits: `kloros-infra apply {plan}`" in told
    first = record(site)
    assert (first["outcome"], declared_mib(site)) == ("planned", 12 * 1024)

    plan.unlink()
    assert replan(site) == told
    assert record(site) == first
    assert not plan.exists()

    # Another change is planned anew; what was planned is carried out exactly.
    has(nvml, 6 * GB)
    replan(site)
    applied = kloros_infra("apply", plan)
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert declared_mib(site) == 6 * GB // 2**20
    assert "as they were compiled for" in replan(site)
    assert not plan.exists()

    site.file.rename(site.folder / "elsewhere.yaml")
    has(nvml, 4 * GB)
    assert f"KI927 No models.yaml to plan from: {site.file} is not there any more." in replan(site)
    assert record(site)["outcome"] == "failed"


def test_it_is_applied_where_models_yaml_says_so_and_is_as_it_was_applied(site: Laptop, nvml: ScriptedNvml) -> None:
    site.edit(lambda document: document.update(policies={"on_gpu_change": "apply"}))
    has(nvml, 8 * GB)
    assert "has changed since it was applied" in replan(site)
    assert (record(site)["outcome"], declared_mib(site)) == ("planned", 12 * 1024)

    site.edit(with_less_context)
    applied = site.apply()
    assert applied.returncode == 0, applied.stdout + applied.stderr
    has(nvml, 6 * GB)
    assert "was applied" in replan(site)
    assert (record(site)["outcome"], declared_mib(site)) == ("applied", 6 * GB // 2**20)
