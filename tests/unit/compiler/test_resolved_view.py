"""What `show` shows means the same as the file, and says of each value where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kloros_infra.compiler.composition import included
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.resolved_view import Origin, View, resolved_view, written_view
from kloros_infra.compiler.view_text import find_value, view_data, view_lines
from kloros_infra.compiler.yaml_lines import yaml_lines
from kloros_infra.diagnostics import Span
from kloros_infra.ir.catalog import Catalog
from tests.factories import a_lock_for
from tests.whole_example import whole_example

CHECKOUT = Path(__file__).parents[3]
PROJECTS = [CHECKOUT, *sorted(file.parent for file in (CHECKOUT / "examples").glob("*/models.yaml"))]


def parsed_text(text: str, parts: dict[str, str] | None = None) -> Parsed:
    parsed, problems = parse(text, file="models.yaml", parts=parts or {})
    assert parsed is not None, problems
    return parsed


def parsed_project(folder: Path) -> Parsed:
    text = (folder / "models.yaml").read_text()
    names = [str(path.relative_to(folder)) for path in sorted(folder.glob("*/*.yaml"))]
    found = [name for pattern in included(text, file="models.yaml") for name in names if pattern.is_match(name)]
    return parsed_text(text, {name: (folder / name).read_text() for name in found})


def catalog_of(parsed: Parsed) -> Catalog:
    catalog, problems = resolve(parsed, a_lock_for(parsed.config))
    assert catalog is not None, problems
    return catalog


def shown(view: View) -> str:
    return "\n".join(view_lines(view)) + "\n"


def yaml_of(value: Any) -> str:
    return "\n".join(line.text for line in yaml_lines(value)) + "\n"


def origin(view: View, *address: str | int) -> str:
    return str(view.origin(address))


each_project = pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)


@each_project
def test_the_resolved_file_means_the_same(folder: Path) -> None:
    parsed = parsed_project(folder)
    again = parsed_text(shown(resolved_view(parsed.source)))

    assert catalog_of(again) == catalog_of(parsed)


@each_project
def test_the_joined_file_says_the_same(folder: Path) -> None:
    parsed = parsed_project(folder)

    assert parsed_text(shown(written_view(parsed.source))).config == parsed.config


@each_project
def test_what_is_resolved_stays_the_same_when_it_is_resolved_again(folder: Path) -> None:
    view = resolved_view(parsed_project(folder).source)

    assert resolved_view(parsed_text(shown(view)).source).tree == view.tree


def test_every_setting_can_be_shown() -> None:
    parsed = parsed_text(yaml_of(whole_example()))

    assert parsed_text(shown(written_view(parsed.source))).config == parsed.config
    assert shown(resolved_view(parsed.source)).count("# standard") == 0


INCLUDES = parsed_project(CHECKOUT / "examples" / "includes").source


def test_values_name_the_file_and_line_they_stand_in() -> None:
    view = resolved_view(INCLUDES)

    assert origin(view, "models", 1, "profiles", "gpu", "parallel") == "models/smollm2.yaml:16"
    assert origin(view, "models", 1, "profiles", "cpu_only", "parallel") == "defaults, models.yaml:24"
    assert origin(view, "models", 1, "profiles", "gpu", "context_tokens") == "model, models/smollm2.yaml:9"
    assert origin(view, "models", 1, "profiles", "gpu", "placement") == "standard"
    assert origin(view, "models", 0, "current_version") == "only version, models/gemma3.yaml:14"
    assert origin(view, "personas", 0, "display_name") == "id, models.yaml:34"
    assert origin(view, "models", 0, "versions", 0, "gguf_url", 2) == "models/gemma3.yaml:18"


def test_what_an_anchor_brings_in_names_the_line_where_it_is_written() -> None:
    view = resolved_view(INCLUDES)

    assert origin(view, "personas", 1, "sampling", "top_p") == "models.yaml:31"
    assert origin(view, "personas", 1, "sampling", "temperature") == "models.yaml:41"


def test_arguments_are_joined_and_each_names_its_own_place() -> None:
    view = resolved_view(INCLUDES)

    assert view.value(("models", 0, "profiles", "gpu", "arguments")) == {"no-mmap": True, "threads": 4}
    assert origin(view, "models", 0, "profiles", "gpu", "arguments", "threads") == "model, models/gemma3.yaml:12"
    assert origin(view, "models", 1, "profiles", "gpu", "arguments", "threads") == "defaults, models.yaml:27"


def test_values_within_a_line_come_from_where_the_line_does() -> None:
    view = resolved_view(INCLUDES)

    assert origin(view, "bridge", "ports", 0) == origin(view, "bridge", "ports") == "models.yaml:44"


SMALL: dict[str, Any] = {
    "version": 1,
    "hosts": {"box": {}},
    "gpus": {
        "card": {
            "host": "box",
            "uuid": "GPU-00000000-0000-0000-0000-000000000001",
            "vram": "12GiB",
            "bandwidth": "360GB/s",
            "compute_capability": "8.6",
        }
    },
    "profiles": {"mid": {"gpus": ["card"]}, "cpu_only": {"gpus": []}},
    "models": [
        {
            "id": "small",
            "display_name": "Small",
            "purpose_tags": ["fast"],
            "context_tokens": 2048,
            "cost_tier": "low",
            "versions": [{"version_id": "1", "gguf_url": "file:///weights/small.gguf"}],
            "profiles": {"mid": {"port": 8601}, "cpu_only": {"port": 8602}},
        }
    ],
}


def small(**changes: Any) -> Parsed:
    return parsed_text(yaml_of({**SMALL, **changes}))


def test_the_memory_left_free_is_that_of_defaults() -> None:
    standard = resolved_view(small().source)
    written = resolved_view(small(defaults={"reserve": "2GiB"}).source)

    assert (standard.tree["gpus"]["card"]["reserve"], origin(standard, "gpus", "card", "reserve")) == (
        "512MiB",
        "standard",
    )
    assert written.tree["gpus"]["card"]["reserve"] == "2GiB"
    assert origin(written, "gpus", "card", "reserve").startswith("defaults, models.yaml:")


def test_two_versions_and_none_named_leave_the_version_open() -> None:
    versions = [{"version_id": id, "gguf_url": "file:///weights/small.gguf"} for id in ("1", "2")]
    several = resolved_view(small(models=[{**SMALL["models"][0], "versions": versions}]).source)
    none = {key: part for key, part in SMALL["models"][0].items() if key != "versions"}

    assert "current_version" not in several.tree["models"][0]
    assert "current_version" not in resolved_view(small(models=[none]).source).tree["models"][0]


@pytest.mark.parametrize(
    "changes",
    [
        {"sandbox": {}},
        {"personas": [], "gpus": {}, "profiles": {"cpu_only": {"gpus": []}}, "models": [
            {**SMALL["models"][0], "profiles": {"cpu_only": {"port": 8602}, "mid": None}}
        ]},
        {"purposes": {"fast": {"candidates": ["small"], "when": [{}]}}},
        {"personas": [{"id": "voice", "base_model": "small", "sampling": {}, "name": None}][:0]},
        {"personas": [{"id": "voice", "base_model": "small", "sampling": {}}]},
        {"models": [{**SMALL["models"][0], "arguments": {}, "parallel": None}]},
    ],
)  # fmt: skip
def test_empty_values_are_shown_too(changes: dict[str, Any]) -> None:
    parsed = small(**changes)

    assert parsed_text(shown(written_view(parsed.source))).config == parsed.config
    assert parsed_text(shown(resolved_view(parsed.source)))


def test_null_under_a_profile_is_shown() -> None:
    model = {**SMALL["models"][0], "profiles": {"cpu_only": {"port": 8602}, "mid": None}}

    assert "      mid: null" in "\n".join(view_lines(resolved_view(small(models=[model]).source)))


inherited = st.fixed_dictionaries(
    {},
    optional={
        "parallel": st.none() | st.integers(1, 4),
        "cache_type_k": st.sampled_from(["f16", "q8_0", None]),
        "placement": st.sampled_from(["auto", "fit", None]),
        "preload": st.booleans() | st.none(),
        "arguments": st.dictionaries(st.sampled_from(["threads", "threads-batch", "poll"]), st.integers(1, 9)),
    },
)


@settings(max_examples=60, deadline=None)
@given(inherited, inherited, inherited)
def test_what_is_shown_is_what_resolve_settles(
    defaults: dict[str, Any], model: dict[str, Any], instance: dict[str, Any]
) -> None:
    profiles = {"mid": {"port": 8601, **instance}, "cpu_only": {"port": 8602}}
    parsed = small(defaults=defaults, models=[{**SMALL["models"][0], **model, "profiles": profiles}])
    view = resolved_view(parsed.source)

    catalog = catalog_of(parsed)
    assert catalog_of(parsed_text(shown(view))) == catalog
    for one in catalog.instances:
        settled = view.tree["models"][0]["profiles"][one.id.profile]
        assert settled["parallel"] == one.serving.parallel
        assert settled["preload"] == one.serving.preload
        assert settled.get("arguments", {}) == dict(one.serving.arguments)


def test_comments_of_a_section_stand_one_below_the_other() -> None:
    lines = list(view_lines(resolved_view(small().source)))
    bridge = lines[lines.index("bridge:") + 1 : lines.index("sandbox:")]

    assert lines[0] == "version: 1  # models.yaml:1"
    assert len({line.index("  # ") for line in lines[lines.index("bridge:") + 1 : lines.index("sandbox:")]}) == 1
    assert bridge[1] == "  ports: [11434]          # standard"


def test_one_long_line_does_not_move_all_comments() -> None:
    path = "/" + "a" * 200
    lines = list(view_lines(resolved_view(small(hosts={"box": {"llama_server": path}}).source)))

    assert f"    llama_server: {path}  # models.yaml:4" in lines
    assert "    role: local                 # standard" in lines
    assert "    memory_bandwidth: 51.2GB/s  # standard" in lines


def test_data_has_each_value_with_its_place() -> None:
    parsed = small()
    data = view_data(resolved_view(parsed.source), parsed.source, ("models", 0, "profiles", "mid"))

    assert data["/models/0/profiles/mid/port"] == {
        "path": "models.small.profiles.mid.port",
        "value": 8601,
        "file": "models.yaml",
        "line": parsed.span(("models", 0, "profiles", "mid", "port")).line,
        "column": 15,
        "origin": "written",
    }
    assert data["/models/0/profiles/mid/parallel"] == {
        "path": "models.small.profiles.mid.parallel",
        "value": 1,
        "file": None,
        "line": None,
        "column": None,
        "origin": "standard",
    }
    assert all(pointer.startswith("/models/0/profiles/mid/") for pointer in data)


def test_data_within_a_line_is_found() -> None:
    parsed = small()
    data = view_data(resolved_view(parsed.source), parsed.source, ("profiles", "mid", "gpus", 0))

    assert [(pointer, one["value"]) for pointer, one in data.items()] == [("/profiles/mid/gpus/0", "card")]


def test_values_of_one_path_are_told_apart() -> None:
    parameters = {"a.b": 1, "a": {"b": 2}, "c/d~": 3}
    tool = {"name": "read_file", "parameters": parameters}
    parsed = small(personas=[{"id": "voice", "base_model": "small", "tools": [tool]}])
    address = ("personas", 0, "tools", 0, "parameters")

    for view in (written_view(parsed.source), resolved_view(parsed.source)):
        data = view_data(view, parsed.source, address)
        start = "/personas/0/tools/0/parameters"
        assert {pointer.removeprefix(start): one["value"] for pointer, one in data.items()} == {
            "/a.b": 1,
            "/a/b": 2,
            "/c~1d~0": 3,
        }


@pytest.mark.parametrize(
    ("asked", "address"),
    [
        ("", ()),
        ("smollm2", ("models", 1)),
        ("smollm2-135m-instruct-q4_1", ("models", 1)),
        ("smollm2:135m", ("models", 1)),
        ("models", ("models",)),
        ("models[1].id", ("models", 1, "id")),
        ("models.1.id", ("models", 1, "id")),
        ("models.gemma3.versions.2026-11-22-01.version_id", ("models", 0, "versions", 0, "version_id")),
        ("models.smollm2-135m-instruct-q4_1.profiles.gpu", ("models", 1, "profiles", "gpu")),
        ("bridge.ports[0]", ("bridge", "ports", 0)),
        ("bridge.ports", ("bridge", "ports")),
    ],
)
def test_parts_are_found_by_model_or_path(asked: str, address: tuple[str | int, ...]) -> None:
    assert find_value(resolved_view(INCLUDES).tree, asked) == (address, ())


def test_names_may_have_full_stops() -> None:
    model = {**SMALL["models"][0], "id": "qwen2.5-7b"}
    tree = resolved_view(small(models=[model]).source).tree

    assert find_value(tree, "models.qwen2.5-7b.id") == (("models", 0, "id"), ())


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("smolm2", "Did you mean 'smollm2'?"),
        ("modles.smollm2", "Did you mean 'models'?"),
        ("models.smollm2.profiles.gpuu", "Did you mean 'gpu'?"),
        ("profiles.gpu.gpus[7]", "Known here: 0."),
        ("version.1", "Nothing of this kind is declared."),
    ],
)
def test_what_is_not_there_is_said_with_what_is(asked: str, hint: str) -> None:
    address, (problem,) = find_value(resolved_view(INCLUDES).tree, asked)

    assert address is None
    assert (problem.code, problem.hint) == ("KI536", hint)


def test_a_file_without_models_has_its_values_found() -> None:
    assert find_value({"version": 1}, "version") == (("version",), ())


def test_an_origin_reads_as_a_comment() -> None:
    assert str(Origin("standard")) == "standard"
    assert str(Origin("defaults", Span("models.yaml", 30, 3))) == "defaults, models.yaml:30"
    assert str(Origin("written", Span("models/code.yaml", 12, 5))) == "models/code.yaml:12"
