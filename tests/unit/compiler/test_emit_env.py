"""Which cards an instance sees, and under which name its env file lies."""

from __future__ import annotations

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_env import emit_env, env_path
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.catalog import Card, Model, ModelKind, PlacementMode
from kloros_infra.ir.environment_file import parse_environment_file
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.placement.place import place
from kloros_infra.placement.remote import numbered
from tests.factories import a_card, a_draft, a_model, a_profile, a_serving, an_instance, some_weights

RERANKING = "LLAMA_ARG_RERANKING"
UUIDS = ("GPU-00000000-0000-0000-0000-00000000000a", "GPU-00000000-0000-0000-0000-00000000000b")


def variables(*cards: Card, model: Model | None = None, layers: tuple[int, ...] | None = None) -> dict[str, str]:
    """Emit the env file of an instance with these cards, and read it as the embedded supervisor does.

    Without `layers` each card gets some.
    """
    serving = a_serving(placement=PlacementMode.MANUAL)
    instance = an_instance(model, a_profile("gpu", *cards), serving=serving, layers=layers)
    placement, problems = place(instance)
    assert placement, problems
    named = numbered(placement, instance, ())
    return parse_environment_file(emit_env(instance, named, rendering=rendering(read_templates(), Layout())))


def test_uuids_name_the_cards_in_the_order_of_the_profile() -> None:
    found = variables(a_card("b", uuid=UUIDS[1], cuda_index=1), a_card("a", uuid=UUIDS[0], cuda_index=0))

    assert found["CUDA_VISIBLE_DEVICES"] == f"{UUIDS[1]},{UUIDS[0]}"
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_indices_name_all_cards_when_one_has_no_uuid() -> None:
    found = variables(a_card("b", uuid=UUIDS[1], cuda_index=2), a_card("a", cuda_index=0))

    assert found["CUDA_VISIBLE_DEVICES"] == "2,0"


def test_a_card_that_the_plan_does_not_use_is_not_shown() -> None:
    """A server would open a context there, and hold its memory."""
    found = variables(a_card("a", uuid=UUIDS[0]), a_card("b", uuid=UUIDS[1]), layers=(0, 3))

    assert (found["CUDA_VISIBLE_DEVICES"], found["LLAMA_ARG_DEVICE"]) == (UUIDS[1], "CUDA0")


def test_without_cards_none_is_shown() -> None:
    assert variables()["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ModelKind.EMBEDDING, {"LLAMA_ARG_EMBEDDINGS": "1"}),
        (ModelKind.RERANK, {"LLAMA_ARG_RERANKING": "1"}),
        (ModelKind.CHAT, {}),
        (ModelKind.VISION, {}),
    ],
)
def test_a_model_that_does_not_chat_is_started_for_what_it_does(kind: ModelKind, expected: dict[str, str]) -> None:
    found = variables(model=a_model(kind=kind))

    assert {name: value for name, value in found.items() if name in ("LLAMA_ARG_EMBEDDINGS", RERANKING)} == expected


@pytest.mark.parametrize("kind", [ModelKind.CHAT, ModelKind.VISION])
def test_a_chat_template_is_named_and_the_engine_that_knows_names_chosen(kind: ModelKind) -> None:
    found = variables(model=a_model(kind=kind, chat_template="chatml"))

    assert (found["LLAMA_ARG_CHAT_TEMPLATE"], found["LLAMA_ARG_JINJA"]) == ("chatml", "false")
    assert not variables().keys() & {"LLAMA_ARG_CHAT_TEMPLATE", "LLAMA_ARG_JINJA"}


def test_a_draft_model_proposes() -> None:
    draft = a_draft("tiny", max_tokens=8, min_tokens=1, min_probability=0.75)
    on_cpu, on_card = variables(model=a_model(draft=draft)), variables(a_card("a"), model=a_model(draft=draft))

    assert on_card["LLAMA_ARG_SPEC_DRAFT_MODEL"] == "/var/lib/llama-models/tiny/1/model.gguf"
    assert on_card["LLAMA_ARG_SPEC_TYPE"] == "draft-simple"
    assert [on_card[f"LLAMA_ARG_SPEC_DRAFT_{name}"] for name in ("N_MAX", "N_MIN", "P_MIN")] == ["8", "1", "0.75"]
    assert (on_card["LLAMA_ARG_N_GPU_LAYERS_DRAFT"], on_cpu["LLAMA_ARG_N_GPU_LAYERS_DRAFT"]) == ("all", "0")


def test_a_projector_is_beside_the_head() -> None:
    seeing = a_model("sees", kind=ModelKind.VISION, projector=some_weights("sees@1+mmproj"))
    on_cpu, on_card = variables(model=seeing), variables(a_card("a"), model=seeing)

    assert on_card["LLAMA_ARG_MMPROJ"] == "/var/lib/llama-models/sees/1/mmproj.gguf"
    assert (on_card["LLAMA_ARG_MMPROJ_OFFLOAD"], on_card["MTMD_BACKEND_DEVICE"]) == ("true", "CUDA0")
    assert (on_cpu["LLAMA_ARG_MMPROJ_OFFLOAD"], on_cpu.get("MTMD_BACKEND_DEVICE")) == ("false", None)


def test_a_split_gguf_is_loaded_by_its_first_part() -> None:
    weights = some_weights("large@1", source=("file:///w/x-00001-of-00003.gguf",))

    found = variables(model=a_model("large", weights=weights))

    assert found["LLAMA_ARG_MODEL"] == "/var/lib/llama-models/large/1/model-00001-of-00003.gguf"


def test_a_file_is_named_by_instance_and_content() -> None:
    instance = InstanceId("code", "max")

    # sha256("x") = 2d711642…
    assert env_path(instance, "x", Layout()) == "etc/kloros-infra/current/env/code-max.2d711642.env"
    assert env_path(instance, "y", Layout()) != env_path(instance, "x", Layout())
