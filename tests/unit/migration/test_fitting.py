"""What is taken over fits into a models.yaml that is there: free names, free ports, nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.compiler.parse import parse
from kloros_infra.editing.edits import AppendItem
from kloros_infra.editing.texts import edit_text
from kloros_infra.ir.catalog import CostTier, KvType, ModelKind, PlacementMode
from kloros_infra.migration.fitting import Fitted, Surroundings, fit, surroundings_of
from kloros_infra.migration.taken_over import Row, TakenDraft, TakenModel, TakenOver, TakenPersona, TakenWeights
from kloros_infra.migration.written_models import edits_of, model_value, new_file, persona_value

TODAY = "2026-01-02"
ROOT = Path(__file__).parents[3] / "models.yaml"


def a_taken(id: str = "small", *, source: str = "", aliases: tuple[str, ...] = (), **further: object) -> TakenModel:
    return TakenModel(
        id=id,
        display_name=id.title(),
        weights=TakenWeights((source or f"file:///w/{id}.gguf",)),
        context_tokens=4096,
        purpose_tags=("conversation",),
        cost_tier=CostTier.LOW,
        aliases=aliases,
        **further,  # type: ignore[arg-type]  # fields by name
    )


def over(*models: TakenModel, personas: tuple[TakenPersona, ...] = (), rows: tuple[Row, ...] = ()) -> TakenOver:
    return TakenOver(models, personas, rows)


def root() -> Surroundings:
    parsed, _ = parse(ROOT.read_text(), file="models.yaml")
    assert parsed is not None
    return surroundings_of(parsed.config)


def written(fitted: Fitted) -> list[object]:
    return [model_value(one, today=TODAY) for one in fitted.models]


def test_an_empty_place_has_one_profile_without_cards() -> None:
    fitted = fit(over(a_taken("a"), a_taken("b")), Surroundings())
    assert [one.instances for one in fitted.models] == [(("cpu_only", 8601, 0),), (("cpu_only", 8602, 0),)]
    assert not fitted.is_empty
    assert fit(over(), Surroundings()).is_empty


def test_ports_and_profiles_are_those_of_the_file() -> None:
    (one,) = fit(over(a_taken()), root()).models
    assert [name for name, _, _ in one.instances] == ["max", "mid", "fallback", "cpu_only"]
    assert [cards for _, _, cards in one.instances] == [3, 2, 1, 0]
    assert not {port for _, port, _ in one.instances} & root().ports
    assert all(8600 < port < 11434 for _, port, _ in one.instances)


@pytest.mark.parametrize("used", [frozenset({8601}), frozenset({8601, 9999}), frozenset({11434, 40000})])
def test_ports_are_free_and_unprivileged(used: frozenset[int]) -> None:
    (one,) = fit(over(a_taken()), Surroundings(ports=used)).models
    ((_, port, _),) = one.instances
    assert port not in used
    assert 1024 <= port < 32768


def test_the_port_for_figures_is_taken_too() -> None:
    parsed, _ = parse(f"{ROOT.read_text()}\nobservability: {{metrics_port: 9464}}\n", file="models.yaml")
    assert parsed is not None
    assert 9464 in surroundings_of(parsed.config).ports


def test_ports_above_those_of_instances_are_no_beginning() -> None:
    (one,) = fit(over(a_taken()), Surroundings(ports=frozenset({9998, 9999, 10000}))).models
    assert one.instances[0][1] not in {9998, 9999, 10000}


def test_taken_names_are_numbered_or_left_out() -> None:
    around = Surroundings(owners={"small": "other", "main": "other"})
    rows = (Row("theirs", ("small", "voice")),)
    personas = (TakenPersona("voice", "small", aliases=("main:latest", "mine")),)
    fitted = fit(over(a_taken(aliases=("main", "own")), personas=personas, rows=rows), around)
    assert (fitted.models[0].model.id, fitted.models[0].model.aliases) == ("small-2", ("own",))
    assert (fitted.personas[0].model_id, fitted.personas[0].aliases) == ("small-2", ("mine",))
    assert fitted.rows == (
        Row(
            "theirs",
            ("small-2", "voice"),
            (
                "the name small is taken by other",
                "the name main is taken by other",
                "the name main:latest is taken by other",
            ),
        ),
    )


def test_what_is_there_already_is_not_added_again() -> None:
    around = Surroundings(
        owners={"small": "small", "voice": "voice"},
        weights={("file:///w/small.gguf",): ("small",)},
        personas={"voice": "small"},
    )
    rows = (Row("theirs", ("small", "voice"), ("note",)),)
    fitted = fit(over(a_taken(), personas=(TakenPersona("voice", "small"),), rows=rows), around)
    assert fitted.is_empty
    assert fitted.rows == (Row("theirs", ("small", "voice"), ("in models.yaml already", "note")),)


@pytest.mark.parametrize(
    ("there", "is_there"), [(("other",), True), (("other", "third"), False), (("other", "small"), True)]
)
def test_the_same_weights_are_the_same_model(there: tuple[str, ...], is_there: bool) -> None:
    around = Surroundings(weights={("file:///w/small.gguf",): there}, owners={name: name for name in there})
    assert fit(over(a_taken()), around).is_empty is is_there


def test_drafts_follow_their_models_new_names() -> None:
    draft = a_taken("tiny", runs=False)
    fitted = fit(over(a_taken(draft=TakenDraft("tiny", 8)), draft), Surroundings(owners={"tiny": "other"}))
    assert fitted.models[0].model.draft == TakenDraft("tiny-2", 8)
    assert fitted.models[1].instances == ()


def test_a_split_for_other_cards_is_noted() -> None:
    taken = over(a_taken(tensor_split=(3.0, 1.0)), rows=(Row("theirs", ("small",)),))
    assert fit(taken, Surroundings()).rows[0].notes == ("tensor-split left out: no profile here has 2 cards",)
    assert fit(taken, Surroundings(profiles={"two": 2})).rows[0].notes == ()


def test_a_model_is_written_in_the_order_of_the_language() -> None:
    model = a_taken(
        kind=ModelKind.VISION,
        chat_template="chatml",
        parallel=2,
        cache_type_k=KvType.Q8_0,
        cache_type_v=KvType.Q8_0,
        placement=PlacementMode.FIT,
        arguments={"threads": 8, "lora": ("a", "b")},
        preload=False,
        pin=True,
        idle_timeout_s=7200,
        drain_s=45,
        group="large",
        draft=TakenDraft("tiny", 8, 1, 0.5),
        tensor_split=(23.0, 4.0, 2.0),
        notes="why",
    )
    around = Surroundings(profiles={"max": 3, "one": 1, "none": 0})
    (value,) = written(fit(over(model, a_taken("tiny", runs=False)), around))[:1]
    assert value == {
        "id": "small",
        "kind": "vision",
        "display_name": "Small",
        "purpose_tags": ["conversation"],
        "context_tokens": 4096,
        "cost_tier": "low",
        "group": "large",
        "chat_template": "chatml",
        "parallel": 2,
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "placement": "fit",
        "arguments": {"lora": ["a", "b"], "threads": 8},
        "preload": False,
        "pin": True,
        "idle_timeout": "2h",
        "drain": "45s",
        "draft": {"model": "tiny", "max_tokens": 8, "min_tokens": 1, "min_probability": 0.5},
        "current_version": "2026-01-02-01",
        "versions": [{"version_id": "2026-01-02-01", "gguf_url": "file:///w/small.gguf", "notes": "why"}],
        "profiles": {
            "max": {"port": 8601, "placement": "manual", "gpu_percentages": [79.3, 13.8, 6.9]},
            "one": {"port": 8602},
            "none": {"port": 8603},
        },
    }


@pytest.mark.parametrize("split", [(1.0, 1.0, 1.0), (0.0, 0.0, 7.0), (23.0, 4.0, 2.0), (1e-9, 1.0, 1e9)])
def test_shares_add_up_to_a_hundred(split: tuple[float, ...]) -> None:
    (value,) = written(fit(over(a_taken(tensor_split=split)), Surroundings(profiles={"max": 3})))
    assert isinstance(value, dict)
    shares = value["profiles"]["max"]["gpu_percentages"]
    assert sum(shares) == pytest.approx(100, abs=1e-9)
    assert all(share >= 0 for share in shares)


def test_shares_of_nothing_are_left_out() -> None:
    (value,) = written(fit(over(a_taken(tensor_split=(0.0, 0.0))), Surroundings(profiles={"two": 2})))
    assert isinstance(value, dict)
    assert value["profiles"]["two"] == {"port": 8601}


def test_several_parts_and_a_projector_are_written() -> None:
    model = a_taken()
    weights = TakenWeights(("file:///a", "file:///b"), "ab" * 32, "file:///p")
    fitted = fit(over(replace(model, weights=weights, idle_timeout_s=300)), Surroundings())
    (value,) = written(fitted)
    assert isinstance(value, dict)
    assert value["idle_timeout"] == "5m"
    assert value["versions"][0] == {
        "version_id": "2026-01-02-01",
        "gguf_url": ["file:///a", "file:///b"],
        "mmproj_url": "file:///p",
        "sha256": "ab" * 32,
    }


def test_a_persona_is_written_with_what_it_has() -> None:
    assert persona_value(TakenPersona("a", "b")) == {"id": "a", "base_model": "b"}
    full = TakenPersona("a", "b", ("c",), "Be brief.\n", {"temperature": 0}, ("END",))
    assert persona_value(full) == {
        "id": "a",
        "base_model": "b",
        "aliases": ["c"],
        "system_prompt": "Be brief.\n",
        "sampling": {"temperature": 0},
        "stop": ["END"],
    }


def test_a_new_file_is_valid_and_says_what_it_is_for() -> None:
    models = (
        a_taken("a", draft=TakenDraft("tiny")),
        replace(a_taken("b"), cost_tier=CostTier.HIGH),
        replace(a_taken("c"), purpose_tags=("reasoning", "conversation")),
        a_taken("tiny", runs=False),
    )
    fitted = fit(over(*models, personas=(TakenPersona("p", "a", system_prompt="Hi."),)), Surroundings())
    text = new_file(fitted, origin="elsewhere", host="here", today=TODAY)
    parsed, problems = parse(text, file="models.yaml")
    assert parsed is not None, problems
    purposes = parsed.config.purposes
    assert purposes["conversation"].candidates == ("a", "c", "b")
    assert [name for name, purpose in purposes.items() if purpose.default] == ["conversation"]
    assert text == new_file(fitted, origin="elsewhere", host="here", today=TODAY)


def test_a_new_file_without_a_conversation_has_a_default_too() -> None:
    model = replace(a_taken(), purpose_tags=("rag_embedding",), kind=ModelKind.EMBEDDING)
    text = new_file(fit(over(model), Surroundings()), origin="elsewhere", host="here", today=TODAY)
    assert "rag_embedding: {candidates: [small], default: true}" in text


def test_models_are_added_to_a_file_that_is_there_and_stay_valid() -> None:
    personas = (TakenPersona("new-voice", "small"),)
    edits = edits_of(fit(over(a_taken(), personas=personas), root()), today=TODAY)
    assert [edit.address for edit in edits if isinstance(edit, AppendItem)] == [("models",), ("personas",)]
    text, problems = edit_text(ROOT.read_text(), edits, file="models.yaml")
    assert text is not None, problems
    parsed, problems = parse(text, file="models.yaml")
    assert parsed is not None, problems
    assert parsed.config.models[-1].id == "small"
    assert parsed.config.personas[-1].base_model == "small"


def test_a_port_that_is_left_out_is_taken_all_the_same() -> None:
    parsed, _ = parse(ROOT.read_text().replace("mid:      {port: 8642}", "mid:      {}"), file="models.yaml")
    assert parsed is not None
    assert 8642 in surroundings_of(parsed.config).ports
