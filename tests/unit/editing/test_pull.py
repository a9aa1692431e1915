"""Weights that were found on the hub become versions and models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kloros_infra.editing.edits import AppendItem, SetValue, model_at
from kloros_infra.editing.new_model import (
    Pulled,
    display_name_for,
    free_ports,
    kind_of,
    model_id_for,
    purposes_of,
)
from kloros_infra.editing.pull import Addition, Wishes, add_pulled, provisional, pulled_from
from kloros_infra.ir.catalog import CostTier, ModelKind
from kloros_infra.ir.config import Config
from kloros_infra.ir.lock import Lock
from tests.factories import A_SHA256, a_7b_header, a_gguf_header, a_lock, a_lock_for, a_projector_header, some_weights
from tests.unit.editing.configs import A_SOURCE, a_config, a_spec

REPOSITORY = "owner/small-GGUF"
OTHER = "hf://owner/small-GGUF/small-7b-q6_k.gguf"
TODAY = Wishes("2025-12-01")
A_PROJECTOR = some_weights("p", source=("hf://owner/small-GGUF/mmproj.gguf",), header=a_projector_header())


def pulled(source: str = OTHER, *, repository: str = REPOSITORY) -> Pulled:
    weights = replace(some_weights("x", source=(source,), header=a_gguf_header()), sha256="f" * 64)
    return Pulled(repository, weights)


def addition(config: Config, what: Pulled, wishes: Wishes = TODAY, *, lock: Lock | None = None) -> Addition:
    found, problems = add_pulled(config, lock or a_lock_for(config), what, wishes)
    assert found is not None
    assert problems == ()
    return found


def test_other_weights_from_there_become_a_version() -> None:
    model = a_spec(current_version="1")
    found = addition(a_config(model), pulled())
    entry = {"version_id": "2025-12-01-01", "gguf_url": OTHER}
    assert (found.model_id, found.version_id) == (model.id, "2025-12-01-01")
    assert found.edits == (AppendItem((*model_at(model.id), "versions"), entry),)
    assert list(found.entries) == ["small-7b@2025-12-01-01"]
    assert found.entries["small-7b@2025-12-01-01"].key == "small-7b@2025-12-01-01"


def test_the_only_version_becomes_the_current_one_by_name_when_it_is_not_the_only_one_any_more() -> None:
    found = addition(a_config(a_spec()), pulled())
    assert found.edits[1:] == (SetValue((*model_at("small-7b"), "current_version"), "1"),)


def test_a_model_without_versions_gets_its_first_as_current() -> None:
    remote = a_spec(versions=[], name="far")
    found = addition(a_config(remote), pulled(), replace(TODAY, name="far"))
    assert found.edits[1:] == (SetValue((*model_at("small-7b"), "current_version"), "2025-12-01-01"),)


def test_a_promotion_comes_after_what_it_names() -> None:
    found = addition(a_config(a_spec(current_version="1")), pulled(), replace(TODAY, is_promotion=True))
    assert isinstance(found.edits[0], AppendItem)
    assert found.edits[1] == SetValue((*model_at("small-7b"), "current_version"), "2025-12-01-01")


def test_the_same_weights_are_not_added_twice() -> None:
    config = a_config(a_spec(versions=["1", "2"], current_version="2"))
    same = Pulled(REPOSITORY, some_weights("x", source=(A_SOURCE,)))
    assert same.weights.sha256 == A_SHA256
    found = addition(config, same)
    assert (found.version_id, found.edits) == ("1", ())
    promoted = addition(config, same, replace(TODAY, is_promotion=True))
    assert promoted.edits == (SetValue((*model_at("small-7b"), "current_version"), "1"),)
    assert addition(config, same, lock=Lock({})).version_id == "1"


def test_new_bytes_under_the_same_name_are_a_version() -> None:
    assert addition(a_config(a_spec(current_version="1")), pulled(A_SOURCE)).version_id == "2025-12-01-01"


def test_a_name_decides_which_model_it_is() -> None:
    config = a_config(a_spec("one", name="first", current_version="1"), a_spec("two", current_version="1"))
    assert addition(config, pulled()).model_id == "two"
    assert addition(config, pulled(), replace(TODAY, name="first")).model_id == "one"
    assert addition(config, pulled(), replace(TODAY, name="third")).model_id == "small-7b-q6_k"


def test_a_repository_is_known_by_its_revision_and_in_any_case() -> None:
    config = a_config(a_spec(source="hf://Owner/Small-GGUF@v1/a.gguf", current_version="1"))
    assert addition(config, pulled()).model_id == "small-7b"
    assert addition(config, pulled(repository="owner/small")).model_id == "small-7b-q6_k"


def test_a_new_model_is_described_by_its_file() -> None:
    found = addition(a_config(), pulled("hf://o/r/Qwen2.5-Coder-7B-Q4_K_M-00001-of-00002.gguf"))
    assert found.edits == (
        AppendItem(
            ("models",),
            {
                "id": "qwen2.5-coder-7b-q4_k_m",
                "display_name": "Qwen2.5 Coder 7B Q4_K_M",
                "purpose_tags": ["code_generation"],
                "context_tokens": 32768,
                "cost_tier": "low",
                "current_version": "2025-12-01-01",
                "versions": [
                    {
                        "version_id": "2025-12-01-01",
                        "gguf_url": "hf://o/r/Qwen2.5-Coder-7B-Q4_K_M-00001-of-00002.gguf",
                    }
                ],
                "profiles": {"max": {"port": 8601}, "cpu_only": {"port": 8602}},
            },
        ),
    )


def test_a_new_model_is_left_out_where_it_does_not_fit() -> None:
    weights = some_weights("x", source=(OTHER,), header=a_7b_header())
    tight = a_config(gpus={"card": {**_CARD, "vram": "1GiB"}})
    found, problems = add_pulled(tight, Lock({}), Pulled(REPOSITORY, weights), TODAY)
    assert found is not None
    (edit,) = found.edits
    assert isinstance(edit, AppendItem)
    assert isinstance(edit.value, dict)
    assert edit.value["profiles"] == {"max": None, "cpu_only": {"port": 8601}}
    assert [problem.code for problem in problems] == ["KI401"]
    nowhere = tight.model_copy(update={"profiles": {"max": tight.profiles["max"]}})
    found, problems = add_pulled(nowhere, Lock({}), Pulled(REPOSITORY, weights), TODAY)
    assert found is None
    assert [problem.code for problem in problems] == ["KI401"]


_CARD = {"host": "here", "pci": "0000:01:00.0", "bandwidth": "100GB/s", "compute_capability": "8.6"}


def test_a_projector_makes_a_new_model_see() -> None:
    found = addition(a_config(), replace(pulled(), projector=A_PROJECTOR))
    assert isinstance(found.edits[0], AppendItem)
    value = found.edits[0].value
    assert isinstance(value, dict)
    assert value["kind"] == "vision"
    assert sorted(found.entries) == ["small-7b-q6_k@2025-12-01-01", "small-7b-q6_k@2025-12-01-01+mmproj"]


def test_a_projector_is_left_where_a_model_only_chats() -> None:
    found = addition(a_config(a_spec(current_version="1")), replace(pulled(), projector=A_PROJECTOR))
    assert list(found.entries) == ["small-7b@2025-12-01-01"]


def test_weights_are_pinned_before_anything_is_written() -> None:
    config = provisional(a_config(), OTHER, "hf://owner/small-GGUF/mmproj.gguf")
    (model,) = config.models
    assert model.versions[0].gguf_url == (OTHER,)
    seen = a_lock(some_weights("small@pull", source=(OTHER,)), replace(A_PROJECTOR, key="small@pull+mmproj"))
    found = pulled_from(REPOSITORY, seen)
    assert found.source == OTHER
    assert found.projector is not None
    assert pulled_from(REPOSITORY, a_lock(some_weights("small@pull"))).projector is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://o/r/Qwen2.5 (7B)-Q4_0.gguf", "qwen2.5-7b-q4_0"),
        ("hf://o/r/_x.gguf", "x"),
        ("hf://o/r/???.gguf", "-"),
        ("hf://o/r/" + "a" * 80 + ".gguf", "a" * 64),
    ],
)
def test_ids_are_made_of_file_names(source: str, expected: str) -> None:
    assert model_id_for(source, ()) == (expected if expected != "-" else "model")


def test_an_id_that_is_taken_counts_on() -> None:
    assert model_id_for("hf://o/r/a.gguf", {"a"}) == "a-2"
    assert model_id_for("hf://o/r/a.gguf", {"a", "a-2", "a-3"}) == "a-4"
    assert len(model_id_for("hf://o/r/" + "a" * 80 + ".gguf", {"a" * 64})) <= 64


def test_small_letters_become_titles() -> None:
    assert display_name_for("hf://o/r/qwen2.5-coder-7b-instruct-q4_0.gguf") == "Qwen2.5 Coder 7b Instruct Q4_0"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("DeepSeek-R1-7B", ModelKind.CHAT, ["reasoning"]),
        ("starcoder2", ModelKind.CHAT, ["code_generation"]),
        ("gemma-3", ModelKind.VISION, ["vision"]),
        ("gemma-3", ModelKind.CHAT, ["chat"]),
        ("nomic-embed", ModelKind.EMBEDDING, ["rag_embedding"]),
        ("bge-reranker", ModelKind.RERANK, ["reranking"]),
    ],
)
def test_purposes_are_guessed_by_name_and_kind(name: str, kind: ModelKind, expected: list[str]) -> None:
    assert purposes_of(f"hf://o/r/{name}.gguf", kind) == expected


@pytest.mark.parametrize(
    ("pooling", "kind"),
    [("rank", ModelKind.RERANK), ("mean", ModelKind.EMBEDDING), ("none", ModelKind.CHAT), (None, ModelKind.CHAT)],
)
def test_the_header_tells_the_kind(pooling: str | None, kind: ModelKind) -> None:
    assert kind_of(replace(a_gguf_header(), pooling_type=pooling), has_projector=False) is kind


def test_cost_goes_by_size() -> None:
    assert [CostTier.of_weights(size * 10**9) for size in (1, 5, 30)] == [CostTier.LOW, CostTier.MEDIUM, CostTier.HIGH]


def test_ports_that_the_file_names_are_not_given_away() -> None:
    taken = {"bridge": {"ports": [8611, 8612]}, "observability": {"metrics_port": 8613}}
    config = a_config(a_spec(), a_spec("b", profiles={"max": {"port": 8605}, "cpu_only": None}), **taken)
    ports = free_ports(config)
    assert [next(ports), next(ports)] == [8614, 8615]


def test_ports_begin_anew_below_when_the_highest_are_taken() -> None:
    ports = free_ports(a_config(a_spec(profiles={"max": {"port": 65535}})))
    assert next(ports) == 1024


def test_ports_that_were_worked_out_are_not_given_away() -> None:
    config = a_config(a_spec(profiles={"max": {"port": 8609}, "cpu_only": {}}))
    # The instance without a port has 8610.
    assert next(free_ports(config)) == 8621
