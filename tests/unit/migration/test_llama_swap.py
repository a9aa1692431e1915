"""A configuration of llama-swap, read whole: models, names, groups, hooks, and what has no place here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.diagnostics import Problems, has_errors
from kloros_infra.ir.catalog import KvType
from kloros_infra.migration.described import Described, Variant
from kloros_infra.migration.llama_swap import describe_llama_swap
from kloros_infra.migration.llama_swap_file import parse_llama_swap
from kloros_infra.migration.taken_over import Row

SERVER = "/opt/llama-server --port ${PORT} -m /w/x.gguf"


def described(text: str) -> tuple[dict[str, Described], dict[str, Row], Problems]:
    parsed, problems = parse_llama_swap(text, {}, file="config.yaml")
    assert parsed is not None, problems
    models, rows, found = describe_llama_swap(*parsed)
    return {one.name: one for one in models}, {row.name: row for row in rows}, (*problems, *found)


def one_model(settings: str = "", rest: str = "") -> Described:
    models, _, problems = described(f"models:\n  m:\n    cmd: {SERVER}\n{settings}\n{rest}")
    assert problems == ()
    return models["m"]


def test_a_model_is_described_by_its_command() -> None:
    model = one_model("    name: The model\n    aliases: [gpt-4o-mini]\n    ttl: 600\n    unloadTimeout: 20")
    assert model.served.weights == "file:///w/x.gguf"
    assert (model.display_name, model.aliases) == ("The model", ("gpt-4o-mini",))
    assert (model.served.idle_timeout_s, model.served.drain_s, model.served.preload) == (600, 20, False)
    assert model.notes == ()


def test_commands_have_lines_comments_and_quotes() -> None:
    models, _, _ = described(
        "models:\n  m:\n    cmd: |\n      # the program\n"
        "      /opt/llama-server-b1 \\\n      -m '/w/a b.gguf' -ctk q8_0\n"
    )
    assert models["m"].served.weights == "file:///w/a b.gguf"
    assert models["m"].served.cache_type_k is KvType.Q8_0


def test_variables_are_options_cards_or_others() -> None:
    model = one_model(
        "    env: [LLAMA_ARG_THREADS=4, CUDA_VISIBLE_DEVICES=0, CUDA_DEVICE_ORDER=PCI_BUS_ID, OTHER=1]\n    ttl: 5"
    )
    assert model.served.arguments == {"threads": 4}
    assert model.notes == (
        "CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER left out: profiles say which cards a model is on",
        "OTHER left out: units have variables of their own",
    )


@pytest.mark.parametrize(
    ("settings", "rest", "idle_s"),
    [
        ("    ttl: 60", "", 60),
        ("", "globalTTL: 90", 90),
        ("    ttl: -1", "globalTTL: 90", 90),
        ("    ttl: 60", "globalTTL: 90", 60),
    ],
)
def test_the_nearest_ttl_counts(settings: str, rest: str, idle_s: int) -> None:
    assert one_model(settings, rest).served.idle_timeout_s == idle_s


@pytest.mark.parametrize(("settings", "rest"), [("", ""), ("    ttl: 0", "globalTTL: 90")])
def test_a_model_without_a_ttl_is_noted(settings: str, rest: str) -> None:
    model = one_model(settings, rest)
    assert model.served.idle_timeout_s is None
    assert "without a ttl" in model.notes[0]


def test_hooks_preload_by_any_name() -> None:
    assert one_model("    aliases: [a]", "hooks: {on_startup: {preload: [' a ']}}").served.preload is True


GROUPS = """
groups:
  big: {members: [m, n]}
  always: {swap: false, exclusive: false, persistent: true, members: [e]}
models:
  m: {ttl: 1, cmd: /opt/llama-server -m /w/m.gguf}
  n: {ttl: 1, cmd: /opt/llama-server -m /w/n.gguf}
  e: {ttl: 1, cmd: /opt/llama-server -m /w/e.gguf}
  f: {ttl: 1, cmd: /opt/llama-server -m /w/f.gguf}
"""


def test_groups_take_turns_or_stay() -> None:
    models, _, problems = described(GROUPS)
    assert problems == ()
    assert [(one.group, one.pin) for one in models.values()] == [
        ("big", None),
        ("big", None),
        (None, True),
        (None, None),
    ]
    assert models["m"].notes == ("group big: that it stops all others has no place here; memory decides",)
    assert models["e"].notes == ()


def test_groups_of_newer_configurations_are_the_same() -> None:
    text = GROUPS.replace("groups:", "routing:\n  router:\n    settings:\n      groups:").replace(
        "  big", "        big"
    )
    models, _, _ = described(text.replace("  always", "        always"))
    assert models["m"].group == "big"


def test_a_matrix_has_no_place() -> None:
    text = (
        "routing: {router: {use: matrix, settings: {groups: {g: {members: [m, n]}}, matrix: {sets: {a: 'm & n'}}}}}\n"
    )
    models, rows, _ = described(text + GROUPS.partition("models:")[1] + GROUPS.partition("models:")[2])
    assert models["m"].group is None
    assert any("matrix" in note for note in rows["(the rest of the file)"].notes)


def test_a_group_of_one_takes_no_turns() -> None:
    model = one_model("    ttl: 5", "groups: {g: {members: [m]}}")
    assert (model.group, model.notes) == (None, ())


def test_values_that_are_set_make_variants() -> None:
    model = one_model(
        "    ttl: 5\n    filters:\n      stripParams: temperature, top_p\n"
        "      setParams: {top_p: 0.9, seed: -1, thing: {a: 1}}\n"
        "      setParamsByID:\n        '${MODEL_ID}': {temperature: 0.5}\n"
        "        'm:cold': {temperature: 0, stop: [x, 3]}\n"
        "        'm:odd': {chat_template_kwargs: {a: b}, top_p: null}\n"
        "    aliases: ['m:cold', other]",
    )
    assert model.variants == (
        Variant("m", {"top_p": 0.9, "temperature": 0.5}),
        Variant("m:cold", {"top_p": 0.9, "temperature": 0}, ("x",)),
    )
    assert model.aliases == ("other",)
    assert model.notes[0] == "stripParams left out: temperature, top_p of requests count here"
    assert "set for m and left out: seed, thing" in model.notes
    assert "the name m:odd left out: nothing of what it sets has a place here" in model.notes


def test_openais_names_are_known() -> None:
    model = one_model("    ttl: 5\n    filters: {setParams: {max_completion_tokens: 9, stop: END, model: x}}")
    assert model.variants == (Variant("m", {"max_tokens": 9}, ("END",)),)
    assert model.notes == ("set for m and left out: model",)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("docker run x", "runs docker, not llama-server"),
        ("vllm serve x", "runs vllm"),
        ("''", "runs nothing"),
        ("'/opt/llama-server -m \"/w'", "not understood"),
        ("/opt/llama-server -m ${file}", "needs ${file}"),
    ],
)
def test_what_no_llama_server_serves_says_why(command: str, why: str) -> None:
    models, rows, problems = described(f"models:\n  m:\n    cmd: {command}\n")
    assert models == {}
    assert why in rows["m"].notes[0]
    assert not has_errors(problems)


def test_an_unclosed_quotation_is_located() -> None:
    _, _, problems = described("models:\n  m:\n    cmd: /opt/llama-server 'x\n")
    assert [(problem.code, str(problem.span)) for problem in problems] == [("KI547", "config.yaml:3:10")]


def test_words_that_belong_to_no_option_are_noted() -> None:
    models, _, _ = described("models:\n  m: {ttl: 1, cmd: /opt/llama-server loose -m /w/x}\n")
    assert models["m"].notes == ("loose left out: no option",)


def test_what_has_no_place_is_named_with_its_place_here() -> None:
    _, rows, _ = described(
        f"apiKeys: [x]\npeers: {{}}\nlogLevel: info\nfurther: 1\nmodels: {{m: {{cmd: '{SERVER}', ttl: 1}}}}"
    )
    assert rows["(the rest of the file)"].notes == (
        "apiKeys: keys are a credential here, named by `bridge.credential`",
        "peers: remote hosts are declared under `hosts`",
        "further: not known here",
    )
    model = one_model("    ttl: 1\n    concurrencyLimit: 3\n    proxy: http://127.0.0.1:1\n    thing: 1")
    assert [note.split(" ")[0] for note in model.notes] == ["concurrencyLimit", "thing"]


def test_unknown_members_are_located() -> None:
    _, _, problems = described(
        f"groups: {{g: {{members: [m, nope]}}}}\nhooks: {{on_startup: {{preload: ['', nope]}}}}\n"
        f"models: {{m: {{cmd: '{SERVER}', ttl: 1}}}}\n"
    )
    assert [(problem.code, str(problem.span)) for problem in problems] == [
        ("KI554", "config.yaml:1:27"),
        ("KI554", "config.yaml:2:36"),
    ]


def test_keys_without_a_value_are_as_if_they_were_not_there() -> None:
    models, _, problems = described(
        f"groups:\nhooks:\nrouting:\nmacros:\nmodels:\n  m:\n    cmd: {SERVER}\n    aliases:\n    filters:\n    env:\n"
    )
    assert problems == ()
    assert models["m"].aliases == ()
    assert described("models:\n")[0] == {}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("models: {m: {ttl: x}}", ["1:10 KI103", "1:19 KI104"]),
        ("models: {m: {cmd: x, aliases: a, env: {}}}", ["1:31 KI104", "1:34 KI104"]),
        ("models: [a]", ["1:1 KI104"]),
        ("models: {m: {cmd: x}}\nglobalTTL: -1", ["2:12 KI105"]),
        ("a: [\n", ["1:5 KI101"]),
        ("", ["1:1 KI110"]),
        ("models: {m: {cmd: x}, m: {cmd: y}}", ["1:23 KI106"]),
        ("macros: {PID: 1}\nmodels: {m: {cmd: 3}}", ["1:15 KI550", "2:19 KI104"]),
    ],
)
def test_a_broken_file_is_refused_at_its_place(text: str, places: list[str]) -> None:
    parsed, problems = parse_llama_swap(text, {}, file="c")
    assert parsed is None
    assert has_errors(problems)
    assert [f"{str(problem.span).removeprefix('c:')} {problem.code}" for problem in problems] == places


def test_descriptions_do_not_share_lists() -> None:
    first, second = one_model("    ttl: 1"), one_model("    ttl: 1")
    first.served.notes.append("x")
    assert replace(first) != second
