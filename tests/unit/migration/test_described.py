"""Described models become ours, with what this machine and the hub know of their files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.editing.hub_reference import HubFile
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.migration.described import (
    Described,
    Facts,
    FileFacts,
    Variant,
    file_in_repository,
    take_over_described,
    wanted_files,
    wanted_repositories,
)
from kloros_infra.migration.served import Repository, Served
from kloros_infra.migration.taken_over import TakenOver
from kloros_infra.migration.traits import GIB
from tests.factories import a_gguf_header

SOURCE = "file:///w/coder.gguf"


def files(*names: str) -> tuple[HubFile, ...]:
    return tuple(HubFile(name, 1) for name in names)


def one(name: str = "m", served: Served | None = None, **further: object) -> Described:
    return replace(Described(name, served or Served(weights=SOURCE, context_tokens=4096)), **further)  # type: ignore[arg-type]  # fields by name


def taken(*models: Described, facts: Facts | None = None) -> TakenOver:
    here = Facts({SOURCE: FileFacts(GIB, a_gguf_header())})
    return take_over_described(models, facts or here, origin="elsewhere")


def test_a_described_model_is_taken_over() -> None:
    over = taken(one("My Model", display_name="Shown", aliases=("a", "_b"), group="g", pin=True))
    (model,) = over.models
    assert (model.id, model.display_name) == ("my-model", "Shown")
    assert model.aliases == ("a",)
    assert model.weights.sources == (SOURCE,)
    assert model.purpose_tags == ("code_understanding", "code_generation")
    assert (model.cost_tier, model.kind, model.group, model.pin) == (CostTier.LOW, ModelKind.CHAT, "g", True)
    assert over.rows[0].became == ("my-model",)
    assert over.rows[0].notes == ("the name 'My Model' cannot be an alias", "the name '_b' cannot be an alias")


def test_names_that_make_the_same_id_are_numbered() -> None:
    assert [model.id for model in taken(one("a:b"), one("a/b")).models] == ["a-b", "a-b-2"]


def test_the_header_tells_kind_and_context_where_nothing_is_said() -> None:
    header = replace(a_gguf_header(context=2048), pooling_type="mean")
    over = taken(one(served=Served(weights=SOURCE)), facts=Facts({SOURCE: FileFacts(1, header)}))
    assert (over.models[0].kind, over.models[0].context_tokens) == (ModelKind.EMBEDDING, 2048)
    assert over.rows[0].notes == ("no ctx-size: context_tokens is 2048",)


def test_what_is_said_outranks_the_header_and_has_bounds() -> None:
    served = Served(weights=SOURCE, kind=ModelKind.RERANK, context_tokens=100, chat_template="chatml", parallel=1000)
    over = taken(one(served=replace(served, is_unified=True)))
    (model,) = over.models
    assert (model.kind, model.context_tokens, model.chat_template, model.parallel) == (ModelKind.RERANK, 256, None, 256)
    assert "1000 slots shared one context" in over.rows[0].notes[0]


def test_a_file_that_is_not_here_is_noted() -> None:
    over = taken(one(), facts=Facts())
    assert over.models[0].cost_tier is CostTier.MEDIUM
    assert over.rows[0].notes == ("its file is not on this machine",)


def test_a_file_whose_header_cannot_be_read_is_taken_over() -> None:
    assert taken(one(), facts=Facts({SOURCE: FileFacts(GIB, None)})).models[0].kind is ModelKind.CHAT


def test_tags_are_purposes_where_they_are_names() -> None:
    served = Served(weights=SOURCE, context_tokens=4096, tags=("fast", "Not A Name"))
    assert taken(one(served=served)).models[0].purpose_tags == ("fast",)


def test_variants_become_personas() -> None:
    variants = (Variant("m", {"top_p": 0.9}), Variant("m:cold", {"temperature": 0}, ("x",)))
    over = taken(one(variants=variants, aliases=("other",)))
    assert over.models[0].aliases == ("other",)
    assert [(p.id, p.aliases, dict(p.sampling), p.stop) for p in over.personas] == [
        ("m-as-set", (), {"top_p": 0.9}, ()),
        ("m-cold", ("m:cold",), {"temperature": 0}, ("x",)),
    ]
    assert over.rows[0].became == ("m", "m-as-set", "m-cold")


def test_a_variant_has_the_name_of_a_model_whose_id_is_another() -> None:
    over = taken(one("m:7b", variants=(Variant("m:7b", {"top_p": 0.9}),)))
    assert over.models[0].aliases == ()
    assert over.personas[0].aliases == ("m:7b",)


def test_a_draft_is_a_model_that_runs_nowhere() -> None:
    draft = Served(weights=SOURCE, context_tokens=4096, draft="file:///w/small.gguf", draft_max_tokens=8)
    over = taken(one("a", draft), one("b", draft))
    assert [(model.id, model.runs) for model in over.models] == [("a", True), ("b", True), ("small", False)]
    assert over.models[0].draft is not None
    assert (over.models[0].draft.model_id, over.models[0].draft.max_tokens) == ("small", 8)


def test_a_draft_that_is_a_model_too_is_that_model() -> None:
    small = Served(weights="file:///w/small.gguf", context_tokens=4096)
    over = taken(
        one("small", small), one("a", Served(weights=SOURCE, context_tokens=4096, draft="file:///w/small.gguf"))
    )
    assert [model.id for model in over.models] == ["small", "a"]


def test_weights_of_our_own_store_are_called_by_their_model() -> None:
    draft = "file:///var/lib/llama-models/tiny/2026-01-01-01/model.gguf"
    over = taken(one("a", Served(weights=SOURCE, draft=draft)), facts=Facts({draft: FileFacts(GIB, a_gguf_header())}))
    assert over.models[-1].id == "tiny"


@pytest.mark.parametrize(
    ("weights", "source", "why"),
    [
        (Repository("a/b", "", "c.gguf"), "hf://a/b/c.gguf", ""),
        (Repository("a/b", "Q8_0"), "hf://a/b/x-Q8_0.gguf", ""),
        (Repository("a/b"), "hf://a/b/x-Q4_K_M.gguf", ""),
        (Repository("a/b", "Q2_K"), None, "no file of Q2_K"),
        (Repository("a/c"), None, "no file of weights"),
        (Repository("a/d"), None, "--hf-file"),
    ],
)
def test_a_repository_is_looked_into(weights: Repository, source: str | None, why: str) -> None:
    facts = Facts(repositories={"a/b": files("x-Q8_0.gguf", "x-Q4_K_M.gguf"), "a/c": files("README.md")})
    over = taken(one(served=Served(weights=weights, context_tokens=4096)), facts=facts)
    if source:
        assert over.models[0].weights.sources == (source,)
        assert over.rows[0].notes == ()
    else:
        assert over.models == ()
        assert why in over.rows[0].notes[0]


@pytest.mark.parametrize(
    ("files", "quantization", "chosen"),
    [
        (("b-q4_k_m.gguf", "a.gguf"), "", "b-q4_k_m.gguf"),
        (("b.gguf", "a.gguf", "mmproj-a.gguf"), "", "a.gguf"),
        (("x-Q4_K_M-00002-of-00002.gguf", "x-Q4_K_M-00001-of-00002.gguf"), "Q4_K_M", "x-Q4_K_M-00001-of-00002.gguf"),
        (("Q8_0/x.gguf",), "q8_0", "Q8_0/x.gguf"),
        (("x-IQ4_XS.gguf",), "Q4_XS", None),
        ((), "", None),
    ],
)
def test_the_file_is_chosen_as_llama_server_does(files: tuple[str, ...], quantization: str, chosen: str | None) -> None:
    assert file_in_repository(tuple(HubFile(name, 1) for name in files), quantization) == chosen


def test_what_must_be_looked_at_is_listed_once() -> None:
    models = [
        one(),
        one(),
        one(served=Served(weights=Repository("a/b"))),
        one(served=Served(weights=Repository("c/d", "", "e"))),
    ]
    assert wanted_files(models) == (SOURCE,)
    assert wanted_repositories(models) == ("a/b",)


@pytest.mark.parametrize(
    ("served", "projector", "kind"),
    [
        (Served(weights=Repository("a/b")), "hf://a/b/mmproj-x-F16.gguf", ModelKind.VISION),
        (Served(weights=Repository("a/b"), takes_projector=False), None, ModelKind.CHAT),
        (Served(weights=Repository("a/b"), kind=ModelKind.EMBEDDING), None, ModelKind.EMBEDDING),
        (Served(weights=Repository("a/b"), projector="file:///p"), "file:///p", ModelKind.VISION),
        (Served(weights=Repository("a/c", "", "x.gguf")), None, ModelKind.CHAT),
    ],
)
def test_a_projector_in_the_repository_is_taken_with_it(served: Served, projector: str | None, kind: ModelKind) -> None:
    facts = Facts(repositories={"a/b": files("x-Q4_K_M.gguf", "mmproj-x-F16.gguf", "mmproj-x-F32.gguf")})
    (model,) = taken(one(served=served), facts=facts).models
    assert (model.weights.projector, model.kind) == (projector, kind)


def test_an_obstacle_is_the_whole_row() -> None:
    over = taken(one(served=Served(obstacle="it names no weights"), notes=("more",)))
    assert over.rows[0].notes == ("it names no weights",)
