"""A setting is found however it is asked for, and told in full; docs/language.md is current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kloros_infra.compiler.reference import (
    WIDTH,
    example_in_place,
    explain,
    first_sentence,
    setting_data,
    setting_lines,
)
from kloros_infra.compiler.reference_page import language_page
from kloros_infra.compiler.setting_paths import find_setting
from kloros_infra.compiler.settings import Setting, children, sections, settings
from kloros_infra.ir.written import MEANINGS

PAGE = Path(__file__).parents[3] / "docs" / "language.md"

each_setting = pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.path)


def found(asked: str) -> Setting:
    setting, problems = find_setting(asked)
    assert setting is not None, problems
    return setting


@each_setting
def test_every_setting_is_found_by_its_path(setting: Setting) -> None:
    assert found(setting.path) == setting
    assert found(re.sub(r"\[\]|\.<\w+>", "", setting.path)) == setting
    assert found(setting.path.replace("[]", "[0]").replace("<", "").replace(">", "")) == setting


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("models.context_tokens", "models[].context_tokens"),
        ("models.0.id", "models[].id"),
        ("models[*]", "models"),
        ("models.qwen2.5-7b.profiles.max.port", "models[].profiles.<profile>.port"),
        ("profiles.max.gpus[0]", "profiles.<profile>.gpus"),
        ("profiles.max", "profiles"),
        ("hosts.my.box.upstream.kind", "hosts.<host>.upstream.kind"),
        ("models.arguments.threads", "models[].arguments"),
        ("policies.clients.voice", "policies.clients"),
        ("models.code", "models"),
        ("models.qwen2.5-7b", "models"),
        ("personas.tools.parameters.type", "personas[].tools[].parameters"),
    ],
)
def test_names_ids_and_indices_may_stand_on_the_way(asked: str, path: str) -> None:
    assert found(asked).path == path


@pytest.mark.parametrize(
    ("asked", "detail", "hint"),
    [
        ("brdge", "models.yaml has no setting `brdge`.", "Did you mean 'bridge'?"),
        ("models.contxt_tokens", "models[] has no setting `contxt_tokens`.", "Did you mean 'context_tokens'?"),
        ("profiles.max.gups", "profiles.<profile> has no setting `gups`.", "Did you mean 'gpus'?"),
        ("models.profilse.max.port", "models[] has no setting `profilse`.", "Did you mean 'profiles'?"),
        (
            "models.qwen2.5-7b.ctx",
            "models[] has no setting `ctx`.",
            "What other programs call `ctx` is models[].context_tokens here.",
        ),
        (
            "models.ttl",
            "models[] has no setting `ttl`.",
            "What other programs call `ttl` is models[].idle_timeout here.",
        ),
        ("models.code.colour", "models[] has no setting `colour`.", "Known here: id, name"),
        ("bridge.port", "bridge has no setting `port`.", "Did you mean 'ports'?"),
        ("keep_versions", "models.yaml has no setting `keep_versions`.", "There is storage.keep_versions."),
        ("bridge.ports.x", "bridge.ports has no setting `x`.", "`kloros-infra explain bridge.ports` shows what it is."),
        ("a\x1b[0m", "models.yaml has no setting `a\\x1b`.", None),
        ("", "models.yaml has no setting ``.", None),
    ],
)
def test_what_is_no_setting_is_said_with_what_is_near(asked: str, detail: str, hint: str | None) -> None:
    setting, (problem,) = find_setting(asked)

    assert setting is None
    assert (problem.code, problem.detail) == ("KI535", detail)
    assert problem.hint.startswith(hint or "Known here: version, hosts")


def test_a_setting_is_told_in_full() -> None:
    assert (
        "\n".join(explain(found("models.profiles.max.lease")))
        == """\
models[].profiles.<profile>.lease

  How long an allocation lasts without activity.

  type       a duration above 0s such as 30s or 5m
  default    the model's, then that of `defaults`, then 10m
  inherited  can stand in `defaults`, `models[]` and `models[].profiles.<profile>`; the nearest to
             the profile counts.

  example

    models:
      - profiles:
          max:
            lease: 10m"""
    )


def test_what_nothing_acts_on_is_noted() -> None:
    assert "  note       Checked, but not acted on by this version yet." in list(explain(found("policies.audit")))


def test_a_section_lists_what_is_right_below_it() -> None:
    lines = list(explain(found("hosts")))

    assert "  settings of hosts.<host>" in lines
    assert "  required   yes" in lines
    assert "    role              `local` is the machine that the file is applied on." in lines
    assert not [line for line in lines if line.startswith("      kind")]
    assert "      kind        What it speaks. (required)" in list(explain(found("hosts"), is_recursive=True))


def test_the_sections_are_listed_and_all_settings_below_them() -> None:
    assert len(list(setting_lines(sections()))) == len(sections())
    assert len(list(setting_lines(sections(), is_recursive=True))) == len(settings())


@each_setting
def test_an_explanation_fits_a_terminal(setting: Setting) -> None:
    own = "\n".join(explain(setting)).partition("  example\n")[0]

    assert max(map(len, own.splitlines())) <= WIDTH


@each_setting
def test_an_example_stands_where_the_setting_does(setting: Setting) -> None:
    text = "\n".join(explain(setting)).partition("  example\n\n")[2].partition("\n\n")[0]
    value = yaml.safe_load(text)
    assert value == example_in_place(setting)
    for name in re.split(r"\.", setting.path):
        value = next(iter(value.values())) if name.startswith("<") else value[name.removesuffix("[]")]
        value = value[0] if name.endswith("[]") else value

    assert value == setting.example


def test_a_setting_is_plain_values_for_programs() -> None:
    assert setting_data(found("bridge.ports")) == {
        "path": "bridge.ports",
        "type": "a list; each item is a whole number from 1 to 65535",
        "doc": "Ports; Ollama's own is 11434.",
        "default": "[11434]",
        "default_value": [11434],
        "example": [11434, 11435],
        "is_required": False,
        "is_inherited": False,
        "is_acted_on": True,
        "settings": [],
    }
    assert setting_data(found("version"))["default"] is None
    assert setting_data(found("bus"))["settings"] == ["xsub", "xpub", "direct", "managed", "voice"]
    assert [one["path"] for one in setting_data(found("bus"), is_recursive=True)["settings"]] == [
        "bus.xsub",
        "bus.xpub",
        "bus.direct",
        "bus.managed",
        "bus.voice",
    ]


def test_a_list_has_room_for_one_sentence() -> None:
    assert first_sentence("What it does. And more.") == "What it does."
    assert first_sentence("What llama.cpp does.") == "What llama.cpp does."


def test_the_reference_is_current() -> None:
    assert PAGE.read_text() == language_page(), "kloros-infra explain --markdown writes it"


def test_the_reference_has_a_row_for_every_setting_of_its_own() -> None:
    page = language_page()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    own = [one.name for one in settings() if not one.is_inherited or one.path.startswith("defaults.")]

    assert sorted(rows) == sorted(own)
    assert page.count("Also, as in [`defaults`](#defaults): `parallel`") == 2
    assert not re.search(r"<\w+>", re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)|<!--.*-->", "", page)), (
        "it would be taken for HTML"
    )


def test_every_row_of_the_reference_has_four_cells() -> None:
    for line in language_page().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_the_reference_says_the_rules_of_names_once() -> None:
    page = language_page()

    for words in MEANINGS.values():
        if ": " in words:
            assert page.count(words.partition(": ")[2]) == 1, words


def test_sections_have_their_settings_below_them() -> None:
    assert [one.name for one in children(found("bus"))] == ["xsub", "xpub", "direct", "managed", "voice"]
    assert children(found("bus.xsub")) == ()
