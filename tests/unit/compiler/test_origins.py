"""Every directive that is emitted has a rule, every rule names settings that exist, and answers name lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kloros_infra.compiler.directive_rules import RULES, Kind, kind_of
from kloros_infra.compiler.origins import FromSetting, Origins, rule_for
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.setting_paths import find_setting
from kloros_infra.compiler.variable_rules import VARIABLES
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.unit_keys import env_keys, unit_keys
from tests.emit_cases import EMIT_CASES, case_catalog, compile_case

PLACES = {
    "instance": "models.profiles",
    "model": "models",
    "version": "models.versions",
    "profile": "profiles",
    "gpu": "gpus",
    "host": "hosts",
}


@pytest.mark.parametrize("case", EMIT_CASES, ids=lambda case: case.name)
def test_every_emitted_directive_has_a_rule(case: Path) -> None:
    layout = Layout()
    missing = set()
    for path, artifact in compile_case(case).items():
        assert not isinstance(artifact, TextFile) or artifact.text
        unit = layout.unit_at(re.sub(r"^hosts/[^/]+/", "", path))
        if isinstance(artifact, TextFile) and unit is not None:
            missing |= {f"{kind_of(unit)}: {key}" for key in unit_keys(artifact.text) if rule_for(unit, key) is None}
        if isinstance(artifact, TextFile) and path.startswith(f"{layout.env}/"):
            missing |= {key for key in env_keys(artifact.text) if rule_for("llama@x.service", key) is None}
    assert not missing, "compiler/directive_rules.py, sandbox_rules.py or variable_rules.py lacks these"


def test_every_setting_that_a_rule_names_exists() -> None:
    rules = [rule for table in (*RULES.values(), VARIABLES) for rule in table.values()]
    for name in {name for rule in rules for name in rule.settings}:
        base, colon, field = name.partition(":")
        setting, problems = find_setting(f"{PLACES[base]}.{field}" if colon else name)
        assert not problems, name
        assert setting is not None


def test_every_rule_is_a_sentence() -> None:
    rules = [rule for table in (*RULES.values(), VARIABLES) for rule in table.values()]
    assert all(rule.why.endswith(".") and rule.why[0].isupper() for rule in rules)


def test_units_are_of_a_kind() -> None:
    assert kind_of("kloros-llm.target") is Kind.TARGET
    assert kind_of("kloros-profile-max.target") is Kind.PROFILE
    assert kind_of("kloros-profile.service") is Kind.CHOICE
    assert kind_of("kloros-rpc@code-max.service") is Kind.RPC
    assert kind_of("kloros-router.service") is Kind.SERVER
    assert kind_of("kloros-gpu.service") is kind_of("kloros-reconcile.service") is Kind.AGENT
    assert {kind_of(f"kloros-dirty.{ending}") for ending in ("path", "timer", "service")} == {Kind.FLAG}
    assert kind_of("kloros-reconcile.path") is Kind.FLAG
    assert kind_of("kloros-gpu-nodes.service") is Kind.NODES
    assert rule_for("kloros-router.service", "LLAMA_ARG_PORT") is None


def the_origins(name: str) -> Origins:
    case = next(case for case in EMIT_CASES if case.name == name)
    parsed, _ = checked(parse((case / "models.yaml").read_text("utf-8"), file="models.yaml"))
    return Origins(parsed, case_catalog(case))


def settings_of(origins: Origins, unit: str, key: str) -> tuple[FromSetting, ...]:
    found = origins.reason(unit, key, "value")
    assert found is not None
    assert (found.key, found.value, found.rule) == (key, "value", rule_for(unit, key))
    return found.settings


def test_a_directive_names_the_lines_that_it_follows_from() -> None:
    origins = the_origins("three_gpus_with_shares")
    unit = "llama@code-max.service"
    (port,) = settings_of(origins, unit, "LLAMA_ARG_PORT")
    assert port.path.endswith("profiles.max.port")
    assert port.origin.startswith("models.yaml:")
    visible = [one.path for one in settings_of(origins, unit, "CUDA_VISIBLE_DEVICES")]
    assert visible[0] == "profiles.max.gpus"
    assert any(path.startswith("gpus.") for path in visible)
    weights = [one.path for one in settings_of(origins, unit, "Unit.X-Kloros-Weights")]
    assert any(".versions." in path for path in weights)


def test_a_directive_names_the_version_of_systemd_that_it_is_for() -> None:
    origins = the_origins("relaxed_on_newer_systemd")
    (version,) = settings_of(origins, "llama@chat-mid.service", "Service.RestartSteps")
    assert (version.path, version.value) == ("hosts.box.systemd", "257")
    relaxed = settings_of(origins, "llama@plain-mid.service", "Unit.X-Kloros-Relaxed")
    assert [one.path for one in relaxed][:2] == ["sandbox.relax", "models.plain.relax"]
    (word,) = settings_of(origins, "llama@chat-cpu_only.service", "Unit.X-Kloros-OnChange")
    assert word.value == "never"


def test_what_nobody_wrote_is_standard() -> None:
    (headroom,) = (
        one
        for one in settings_of(the_origins("one_gpu"), "llama@chat-mid.service", "Service.MemoryMax")
        if one.path == "sandbox.memory_headroom"
    )
    assert headroom.origin == "standard" or headroom.origin.startswith("models.yaml:")


def test_what_is_not_ours_has_no_reason() -> None:
    assert the_origins("one_gpu").reason("llama@chat-mid.service", "Service.Nice", "5") is None


def test_a_unit_of_no_instance_follows_from_what_stands_at_the_top() -> None:
    settings = settings_of(the_origins("one_gpu"), "kloros-router.service", "Service.ExecStart")
    assert {one.path.partition(".")[0] for one in settings} <= {"bus", "observability"}
    assert settings_of(the_origins("one_gpu"), "llama@gone-mid.service", "LLAMA_ARG_PORT") == ()
