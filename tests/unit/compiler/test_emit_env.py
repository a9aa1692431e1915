"""Which cards an instance sees, and under which name its env file lies."""

from __future__ import annotations

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_env import emit_env, env_path
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.catalog import Card, ModelKind
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.placement.place import place
from kloros_infra.supervisor.environment_file import parse_environment_file
from tests.factories import a_card, a_model, a_profile, an_instance

UUIDS = ("GPU-00000000-0000-0000-0000-00000000000a", "GPU-00000000-0000-0000-0000-00000000000b")


def variables(*cards: Card, kind: ModelKind = ModelKind.CHAT) -> dict[str, str]:
    """Emit the env file of an instance with these cards, and read it as the embedded supervisor does."""
    instance = an_instance(a_model(kind=kind), a_profile("gpu", *cards))
    placement, problems = place(instance)
    assert placement, problems
    return parse_environment_file(emit_env(instance, placement, rendering=rendering(read_templates(), Layout())))


def test_uuids_name_the_cards_in_the_order_of_the_profile() -> None:
    found = variables(a_card("b", uuid=UUIDS[1], cuda_index=1), a_card("a", uuid=UUIDS[0], cuda_index=0))

    assert found["CUDA_VISIBLE_DEVICES"] == f"{UUIDS[1]},{UUIDS[0]}"
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_indices_name_all_cards_when_one_has_no_uuid() -> None:
    found = variables(a_card("b", uuid=UUIDS[1], cuda_index=2), a_card("a", cuda_index=0))

    assert found["CUDA_VISIBLE_DEVICES"] == "2,0"


def test_without_cards_nothing_is_said_about_cuda() -> None:
    assert not [name for name in variables() if name.startswith("CUDA")]


def test_only_an_embedding_model_is_restricted_to_embeddings() -> None:
    assert variables(kind=ModelKind.EMBEDDING)["LLAMA_ARG_EMBEDDINGS"] == "1"
    assert "LLAMA_ARG_EMBEDDINGS" not in variables()


def test_a_file_is_named_by_instance_and_content() -> None:
    instance = InstanceId("code", "max")

    # sha256("x") = 2d711642…
    assert env_path(instance, "x", Layout()) == "etc/kloros-infra/env/code-max.2d711642.env"
    assert env_path(instance, "y", Layout()) != env_path(instance, "x", Layout())
