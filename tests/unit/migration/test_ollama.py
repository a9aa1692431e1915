"""An Ollama store's models become models and personas, and nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.migration.ollama import Blob, OllamaModel, take_over_ollama
from kloros_infra.migration.ollama_manifest import ConfigSpec, OllamaName
from kloros_infra.migration.taken_over import Row, TakenOver
from kloros_infra.migration.traits import GIB
from tests.factories import a_gguf_header

WITH_TEMPLATE = replace(a_gguf_header(), chat_template_sha256="ab" * 32, chat_template_name="chatml")
CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}{{ end }}"


def a_blob(name: str = "a", *, size_bytes: int = GIB) -> Blob:
    sha256 = (name.encode().hex() * 64)[:64]
    return Blob(f"/store/blobs/sha256-{sha256}", sha256, size_bytes)


def found(
    name: str,
    *,
    weights: tuple[Blob, ...] = (a_blob(),),
    header: GgufHeader | None = WITH_TEMPLATE,
    config: ConfigSpec | None = None,
    parameters: Mapping[str, Any] | None = None,
    **further: Any,
) -> OllamaModel:
    path, _, tag = name.partition(":")
    parts = path.split("/")
    host, namespace, model = (*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts)
    return OllamaModel(
        name=OllamaName(host, namespace, model, tag or "latest"),
        config=config or ConfigSpec(model_format="gguf", model_type="3.2B", file_type="Q4_K_M"),
        weights=weights,
        header=header,
        parameters=parameters or {},
        **further,
    )


def only_row(over: TakenOver) -> Row:
    (row,) = over.rows
    return row


def test_a_model_is_taken_over_where_it_lies() -> None:
    over = take_over_ollama([found("llama3.2:3b")])
    (model,) = over.models
    assert model.id == "llama3.2-3b"
    assert model.aliases == ("llama3.2:3b",)
    assert model.display_name == "llama3.2 3.2B Q4_K_M"
    assert model.weights.sources == (f"file://{a_blob().path}",)
    assert model.weights.sha256 == a_blob().sha256
    assert model.cost_tier is CostTier.LOW
    assert model.context_tokens == 8192
    assert model.preload is False
    assert over.personas == ()
    assert only_row(over) == Row("llama3.2:3b", ("llama3.2-3b",), ("no num_ctx: context_tokens is 8192",))


def test_names_of_the_same_weights_are_one_model() -> None:
    names = (
        "qwen2.5-coder:latest",
        "qwen2.5-coder:7b",
        "qwen2.5-coder:7b-instruct",
        "mine/copy:x",
        "hf.co/q/Q-GGUF:Q4",
    )
    over = take_over_ollama([found(name) for name in names])
    (model,) = over.models
    assert model.id == "qwen2.5-coder-7b"
    assert set(model.aliases) == {
        "qwen2.5-coder:7b", "qwen2.5-coder:7b-instruct", "qwen2.5-coder", "mine/copy:x", "hf.co/q/Q-GGUF:Q4",
    }  # fmt: skip
    assert [row.name for row in over.rows] == sorted(names)
    assert {row.became for row in over.rows} == {("qwen2.5-coder-7b",)}


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("llama3.2", "llama3.2"),
        ("jo/mario", "jo-mario"),
        ("hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M", "llama-3.2-1b-instruct-q4_k_m"),
    ],
)
def test_ids_follow_names(name: str, id: str) -> None:
    (model,) = take_over_ollama([found(name)]).models
    assert model.id == id


def test_other_weights_are_another_model_even_by_the_same_id() -> None:
    over = take_over_ollama([found("a/x-y"), found("a-x:y", weights=(a_blob("b"),))])
    assert [model.id for model in over.models] == ["a-x-y", "a-x-y-2"]


def test_a_system_prompt_makes_a_persona_that_has_the_name() -> None:
    over = take_over_ollama([found("llama3.2"), found("mario", system="You are Mario.", parameters={"temperature": 1})])
    (model,), (persona,) = over.models, over.personas
    assert model.aliases == ()
    assert (persona.id, persona.model_id, persona.aliases) == ("mario", "llama3.2", ())
    assert persona.system_prompt == "You are Mario."
    assert persona.sampling == {"temperature": 1}
    assert [row.became for row in over.rows] == [("llama3.2",), ("llama3.2", "mario")]


def test_where_every_name_has_a_persona_the_model_is_called_by_what_it_is() -> None:
    over = take_over_ollama([found(name, system="Be brief.") for name in ("llama3.2:latest", "llama3.2:3b")])
    (model,), (persona,) = over.models, over.personas
    assert model.id == "llama3.2-3.2b-q4_k_m"
    assert (persona.id, set(persona.aliases)) == ("llama3.2-3b", {"llama3.2:3b", "llama3.2"})


def test_without_details_the_model_is_called_weights() -> None:
    (model,) = take_over_ollama([found("x", system="y", config=ConfigSpec())]).models
    assert model.id == "x-weights"


def test_stops_and_sampling_alone_make_personas_that_differ() -> None:
    over = take_over_ollama([found("a", parameters={"stop": ["User:"]}), found("b", parameters={"top_k": 1})])
    assert {(one.id, one.stop, tuple(one.sampling)) for one in over.personas} == {
        ("a", ("User:",), ()),
        ("b", (), ("top_k",)),
    }


def test_the_largest_context_of_all_names_counts() -> None:
    over = take_over_ollama([found("a", parameters={"num_ctx": 4096}), found("b", parameters={"num_ctx": 16384})])
    (model,) = over.models
    assert model.context_tokens == 16384
    assert over.rows[0].notes == ("num_ctx 4096: the model's other names ask for 16384",)
    assert over.rows[1].notes == ()


def test_options_of_all_names_are_joined() -> None:
    over = take_over_ollama([found("a", parameters={"num_thread": 4}), found("b", parameters={"num_thread": 8})])
    assert over.models[0].arguments == {"threads": 4}


def test_a_projector_makes_a_model_see() -> None:
    over = take_over_ollama([found("llava", projectors=(a_blob("p"), a_blob("q")))])
    assert over.models[0].kind is ModelKind.VISION
    assert over.models[0].weights.projector == a_blob("p").source
    assert "1 further projector left out" in only_row(over).notes


def test_pictures_without_a_projector_are_noted() -> None:
    row = only_row(take_over_ollama([found("gemma3", header=replace(WITH_TEMPLATE, has_vision=True))]))
    assert any("separate projector" in note for note in row.notes)


def test_embedding_models_are_known_by_their_header() -> None:
    header = replace(a_gguf_header(architecture="nomic-bert"), pooling_type="mean")
    over = take_over_ollama([found("nomic-embed-text", header=header, template=CHATML)])
    assert over.models[0].kind is ModelKind.EMBEDDING
    assert over.models[0].chat_template is None
    assert only_row(over).notes == ()


@pytest.mark.parametrize(
    ("header", "template", "chosen", "said"),
    [
        (WITH_TEMPLATE, CHATML, None, None),
        (WITH_TEMPLATE, "{{ .Prompt }}", None, None),
        (WITH_TEMPLATE, "<start_of_turn>user", None, "it is gemma; the weights' own is chatml"),
        (replace(WITH_TEMPLATE, chat_template_name=None), "<start_of_turn>user", None, None),
        (a_gguf_header(), CHATML, "chatml", "taken for llama.cpp's chatml"),
        (a_gguf_header(), "{{ .Prompt }}", None, "of no family"),
        (a_gguf_header(), "", None, None),
    ],
)
def test_templates_are_recognised_where_the_weights_carry_none(
    header: GgufHeader, template: str, chosen: str | None, said: str | None
) -> None:
    over = take_over_ollama([found("x", header=header, template=template, parameters={"num_ctx": 2048})])
    assert over.models[0].chat_template == chosen
    assert len(only_row(over).notes) == (said is not None)
    assert said is None or said in only_row(over).notes[0]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (found("x", weights=(), config=ConfigSpec(remote_host="https://ollama.com\n")), "runs on https://ollama.com"),
        (found("x", config=ConfigSpec(model_format="safetensors")), "safetensors"),
        (found("x", others=("adapter",)), "LoRA"),
        (found("x", weights=(a_blob("a"), a_blob("b"))), "2 layers"),
        (found("x", weights=()), "no weights"),
        (found("x", header=None), "cannot be read"),
        (found("x", header=None, is_whole=False), "see above"),
        (found("x", header=replace(a_gguf_header(), architecture="clip")), "a projector"),
    ],
)
def test_what_cannot_be_taken_over_says_why(model: OllamaModel, why: str) -> None:
    over = take_over_ollama([model])
    row = only_row(over)
    assert over.models == ()
    assert row.became == ()
    assert why in row.notes[0]
    assert row.notes[0].isprintable()


def test_a_name_with_a_broken_layer_is_taken_over_without_it() -> None:
    assert take_over_ollama([found("x", is_whole=False)]).models


def test_messages_and_drafts_are_noted() -> None:
    row = only_row(take_over_ollama([found("x", message_count=2, others=("draft",))]))
    assert any("2 messages" in note for note in row.notes)
    assert any("draft model" in note for note in row.notes)


def test_a_prompt_that_is_too_long_is_noted_and_left_out() -> None:
    over = take_over_ollama([found("x", system="a" * 65_537)])
    assert over.personas == ()
    assert only_row(over).became == (over.models[0].id,)
    assert any("SYSTEM left out" in note for note in only_row(over).notes)


def test_a_name_that_no_alias_can_be_is_noted() -> None:
    over = take_over_ollama([found("_odd:x")])
    assert over.models[0].aliases == ()
    assert any("_odd:x cannot be an alias" in note for note in only_row(over).notes)


def test_the_order_of_the_store_does_not_matter() -> None:
    store = [found("a"), found("b", system="x"), found("c", weights=(a_blob("c"),)), found("d", header=None)]
    assert take_over_ollama(store) == take_over_ollama(store[::-1])
