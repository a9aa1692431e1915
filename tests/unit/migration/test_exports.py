"""What runs under a profile, written for llama-swap, for llama-server's router mode, and for LiteLLM."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from kloros_infra.compiler.compiled import Compiled
from kloros_infra.compiler.source import read
from kloros_infra.ir.catalog import Catalog, ModelKind, Serving
from kloros_infra.ir.catalog_services import BridgeAddresses
from kloros_infra.ir.layout import Layout
from kloros_infra.migration.export_litellm import export_litellm
from kloros_infra.migration.export_llama_presets import export_llama_presets
from kloros_infra.migration.export_llama_swap import export_llama_swap
from kloros_infra.migration.exported import Exported, ExportedInstance, exported
from kloros_infra.migration.llama_presets import describe_llama_presets
from kloros_infra.migration.llama_swap import describe_llama_swap
from kloros_infra.migration.llama_swap_file import parse_llama_swap
from kloros_infra.migration.settings import Setting
from kloros_infra.placement.place import place
from tests.factories import a_catalog, a_model, a_persona, a_profile, a_purpose, a_serving, an_instance, kloros_cards


def an_export(id: str = "small", *settings: Setting, **further: object) -> ExportedInstance:
    one = ExportedInstance(
        model_id=id,
        display_name=id.title(),
        kind=ModelKind.CHAT,
        names=(f"{id}:1b",),
        tags=("fast",),
        context_tokens=2048,
        settings=(Setting("model", f"/w/{id}.gguf"), Setting("ctx-size", "2048"), *settings),
        environment={},
        preload=True,
        pin=False,
        idle_timeout_s=300,
        drain_s=30,
        group=None,
    )
    return replace(one, **further)  # type: ignore[arg-type]  # fields by name


def everything(*instances: ExportedInstance, fits_together: bool = True, **further: object) -> Exported:
    one = Exported(
        profile="max",
        program="/opt/llama-server",
        instances=instances or (an_export(),),
        fits_together=fits_together,
        personas=(),
        purposes={},
        bridge_url="http://127.0.0.1:11434/v1",
    )
    return replace(one, **further)  # type: ignore[arg-type]  # fields by name


def test_presets_are_read_back_as_they_were() -> None:
    odd = Setting("chat-template-kwargs", '{"a": "b c"}')
    switches = (Setting("jinja", True), Setting("mmap", False), Setting("no-host", True))
    repeated = (Setting("override-kv", "a=int:1"), Setting("override-kv", "b=int:2"))
    export = export_llama_presets(everything(an_export("a", odd, *switches, *repeated), an_export("b", preload=False)))
    described, problems = describe_llama_presets(export.text, file="p.ini")
    assert problems == ()
    first, second = described
    assert (first.name, first.served.aliases, first.served.tags) == ("a", ("a:1b",), ("fast",))
    assert (first.served.preload, second.served.preload) == (True, False)
    assert (first.served.drain_s, first.served.idle_timeout_s, first.served.context_tokens) == (30, 300, 2048)
    assert first.served.arguments["chat-template-kwargs"] == '{"a": "b c"}'
    assert first.served.arguments["override-kv"] == "a=int:1,b=int:2"
    assert first.served.arguments["mmap"] is False
    assert export.notes == ()


@pytest.mark.parametrize("value", ["a;b", "a#b", " a", "a ", "a\nb"])
def test_presets_cannot_say_everything(value: str) -> None:
    export = export_llama_presets(everything(an_export("a", Setting("samplers", value))))
    assert "samplers" not in export.text
    assert "samplers left out" in export.notes[0]


def test_presets_say_how_to_start_with_them() -> None:
    cards = {"CUDA_VISIBLE_DEVICES": "GPU-1"}
    pair = (
        an_export("a", environment=cards, group="large"),
        an_export("b", preload=False, pin=True, idle_timeout_s=None, names=()),
    )
    head = export_llama_presets(everything(*pair)).text.partition("\n\n")[0]
    assert ";   export CUDA_VISIBLE_DEVICES=GPU-1\n" in head
    assert "--models-max 2" in head
    assert "--models-max 1" in export_llama_presets(everything(*pair, fits_together=False)).text
    assert "sleep-idle-seconds" not in export_llama_presets(everything(pair[1])).text
    lost = export_llama_presets(
        everything(*pair, personas=(a_persona("p", model_id="a"),), purposes={"fast": ("a",)})
    ).notes
    assert [note.partition(":")[0] for note in lost] == ["group large", "persona p", "purposes (fast)"]


def test_llama_swap_is_read_back_as_it_was() -> None:
    settings = (Setting("chat-template-kwargs", '{"a": "it\'s"}'), Setting("jinja", True), Setting("mmap", False))
    persona = a_persona(
        "cold", model_id="a", aliases=("ice",), system_prompt="", sampling=(("temperature", 0.0),), stop=("END",)
    )
    one = an_export("a", *settings, environment={"CUDA_VISIBLE_DEVICES": "0"})
    export = export_llama_swap(
        everything(one, an_export("b", preload=False, pin=True, idle_timeout_s=None), personas=(persona,))
    )
    parsed, problems = parse_llama_swap(export.text, {}, file="c.yaml")
    assert parsed is not None, problems
    (first, second), rows, found = describe_llama_swap(*parsed)
    assert (rows, found, export.notes) == ((), (), ())
    assert (first.name, first.display_name, first.aliases) == ("a", "A", ("a:1b",))
    assert first.served.arguments == {"chat-template-kwargs": '{"a": "it\'s"}', "mmap": False}
    assert (first.served.preload, first.served.idle_timeout_s, first.served.drain_s) == (True, 300, 30)
    assert [(one.name, one.sampling, one.stop) for one in first.variants] == [
        ("cold", {"temperature": 0.0}, ("END",)),
        ("ice", {"temperature": 0.0}, ("END",)),
    ]
    assert (second.pin, second.served.preload, second.served.idle_timeout_s) == (True, False, None)


def groups(found: Exported) -> object:
    source, _ = read(export_llama_swap(found).text, file="c.yaml")
    assert source is not None
    return source.tree["groups"]


def test_what_fits_together_runs_together() -> None:
    some = (an_export("a"), an_export("b", preload=False), an_export("c", group="big"), an_export("d", pin=True))
    assert groups(everything(*some)) == {
        "big": {"swap": True, "exclusive": False, "members": ["c"]},
        "pinned": {"swap": False, "exclusive": False, "persistent": True, "members": ["d"]},
        "side-by-side": {"swap": False, "exclusive": False, "members": ["a", "b"]},
    }


def test_what_does_not_fit_together_takes_turns() -> None:
    some = (
        an_export("a"),
        an_export("b", preload=False),
        an_export("c", preload=False),
        an_export("d", group="in-turn"),
    )
    assert groups(everything(*some, fits_together=False)) == {
        "in-turn": {"swap": True, "exclusive": True, "members": ["d"]},
        "side-by-side": {"swap": False, "exclusive": True, "members": ["a"]},
        "in-turn-2": {"swap": True, "exclusive": True, "members": ["b", "c"]},
    }


def test_llama_swap_cannot_say_everything() -> None:
    persona = a_persona("p", model_id="a", response_format='{"type": "json_object"}', tools='[{"type": "function"}]')
    other = a_persona("q", model_id="b")
    one = an_export("a", Setting("samplers", "${x}"), preload=False)
    export = export_llama_swap(everything(one, personas=(persona, other), purposes={"fast": ("a",)}))
    assert "samplers" not in export.text
    assert "hooks" not in export.text
    assert [note.split(":")[0] for note in export.notes] == ["a", "persona p", "persona q", "purposes (fast)"]
    parameters = yaml.safe_load(export.text)["models"]["a"]["filters"]["setParamsByID"]
    assert parameters.keys() == {"p"}
    assert parameters["p"]["response_format"] == {"type": "json_object"}
    assert parameters["p"]["tools"] == [{"type": "function"}]


def test_litellm_asks_our_bridge_by_every_name() -> None:
    some = (
        an_export("a", names=("a:1b", "short")),
        an_export("b", names=()),
        an_export("e", kind=ModelKind.EMBEDDING, names=()),
        an_export("r", kind=ModelKind.RERANK),
    )
    purposes = {"fast": ("a", "b"), "deep": ("b", "a"), "a": ("a",), "ranking": ("r",), "none": ()}
    persona = a_persona("p", model_id="a", aliases=("pp",))
    export = export_litellm(everything(*some, personas=(persona,), purposes=purposes))
    document = yaml.safe_load(export.text)
    assert [(one["model_name"], one["model_info"]["mode"]) for one in document["model_list"]] == [
        ("a", "chat"),
        ("b", "chat"),
        ("e", "embedding"),
        ("p", "chat"),
    ]
    assert document["model_list"][0]["litellm_params"] == {
        "model": "openai/a",
        "api_base": "http://127.0.0.1:11434/v1",
        "api_key": "none",
    }
    assert document["router_settings"] == {
        "model_group_alias": {"a:1b": "a", "short": "a", "pp": "p", "fast": "a", "deep": "b"},
        "fallbacks": [{"a": ["b"]}, {"b": ["a"]}],
    }
    assert [note.split(" ")[0] for note in export.notes] == ["r:", "purposes"]


def test_litellm_without_other_names_needs_no_router() -> None:
    document = yaml.safe_load(export_litellm(everything(an_export(names=()))).text)
    assert document.keys() == {"model_list"}


def test_models_without_other_names_have_no_aliases() -> None:
    export = export_llama_swap(everything(an_export(names=())))
    assert "aliases" not in export.text


def compiled(catalog: Catalog) -> Compiled:
    placed = {instance.id: place(instance)[0] for instance in catalog.instances}
    return Compiled(catalog, {id: one for id, one in placed.items() if one is not None}, {}, ())


def test_an_export_is_collected_from_what_was_compiled() -> None:
    profile = a_profile("max", *kloros_cards()[:1])
    serving = replace(a_serving(arguments={"threads": 4, "mmap": False}), idle_timeout_s=60.0, drain_s=5.0)
    served = an_instance(replace(a_model("small"), group="g"), profile, serving=serving)
    other = an_instance(a_model("other"), a_profile("cpu_only"), port=8602)
    catalog = replace(
        a_catalog(served, other, purposes=(a_purpose("fast", "other", "small"),)),
        personas=(a_persona(model_id="small"), a_persona("q", model_id="other")),
        bridge=BridgeAddresses(host="::1", ports=(1, 2)),
        llama_server="package://a/b",
    )
    variables = {
        "small-max": {
            "LLAMA_ARG_MODEL": "/w/x.gguf",
            "LLAMA_ARG_PORT": "1",
            "LLAMA_ARG_UI": "false",
            "LLAMA_ARG_THREADS": "2",
            "CUDA_VISIBLE_DEVICES": "0",
        }
    }
    found = exported(compiled(catalog), variables, profile="max", layout=Layout("/r"))
    (instance,) = found.instances
    assert instance.settings == (Setting("model", "/w/x.gguf"), Setting("mmap", False), Setting("threads", "4"))
    assert instance.environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert (instance.pin, instance.idle_timeout_s, instance.drain_s, instance.group) == (False, 60, 5, "g")
    assert [persona.id for persona in found.personas] == ["pirate"]
    assert found.purposes == {"fast": ("small",)}
    assert found.bridge_url == "http://[::1]:1/v1"
    assert found.program == "/r/etc/kloros-infra/current/bin/llama-server"
    assert found.fits_together


@pytest.mark.parametrize(
    ("serving", "idle_timeout_s", "ttl"),
    [
        (a_serving(preload=True), None, "ttl: 0"),
        (replace(a_serving(), is_pinned=True), None, "ttl: 0"),
        (replace(a_serving(), idle_timeout_s=300.0), 300, "ttl: 300"),
        (replace(a_serving(), idle_timeout_s=0.0), 1, "ttl: 1"),
    ],
)
def test_what_stays_with_us_stays_there(serving: Serving, idle_timeout_s: int | None, ttl: str) -> None:
    instance = an_instance(a_model("small"), a_profile("max"), serving=serving)
    variables = {str(instance.id): {"LLAMA_ARG_MODEL": "/w/x.gguf"}}
    found = exported(compiled(a_catalog(instance)), variables, profile="max", layout=Layout())
    assert [one.idle_timeout_s for one in found.instances] == [idle_timeout_s]
    assert f"{ttl}\n" in export_llama_swap(found).text
    assert ("sleep-idle-seconds" in export_llama_presets(found).text) == (idle_timeout_s is not None)


def test_what_no_profile_of_the_file_says_has_standard_values() -> None:
    catalog = a_catalog()
    variables = {str(catalog.instances[0].id): {"LLAMA_ARG_MODEL": "/w/x.gguf"}}
    found = exported(compiled(catalog), variables, profile=catalog.instances[0].profile.name, layout=Layout())
    (instance,) = found.instances
    assert (instance.pin, instance.drain_s, instance.group) == (False, 30, None)
    assert found.program == "/opt/llama.cpp/llama-server"
    assert found.bridge_url == "http://127.0.0.1:11434/v1"
