"""What the real overrider printed, emitted with layers: a real llama-server on pretend cards has everything there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kloros_infra.adapters.memory_oracle import LlamaServerMemory
from kloros_infra.adapters.programs import find_llama_server
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.placement import Placement
from kloros_infra.placement.arguments import arguments
from kloros_infra.placement.engines.interface import Request
from kloros_infra.placement.engines.overrider import follow
from kloros_infra.placement.load_check import compare
from kloros_infra.placement.memory_breakdown import is_as_foreseen
from kloros_infra.placement.place import Machine
from tests.fakes.fakecuda import KLOROS_CARDS, build_fakecuda, pretending
from tests.fakes.idle_host import build_idle_host, idling
from tests.fakes.sparse_gguf import SparseModel, write_sparse_gguf
from tests.loading import loaded
from tests.memory_matrix import LLAMA_SERVER
from tests.overrider_cases import HEADERS, every_tensor, instance_of, output_of

pytestmark = pytest.mark.real_model

DIVIDED = "qwen3-30b-a3b-q4_k_m"
"""The smallest of those of which the tool put something on a second card."""


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the variables with which llama-server sees three cards, and computes nothing on them."""
    library = build_fakecuda(tmp_path_factory.mktemp("cards"))
    return dict(pretending(library, KLOROS_CARDS, discards=True))


def weights(header: GgufHeader, path: Path) -> Path:
    """Write a file with a model's tensors, and nothing in them."""
    types = {group.name: group.type for group in header.tensors}
    of_layers = {(group.name, layer): group.type for group in header.tensors for layer in group.layers or ()}
    rows = tuple(
        (name, shape, types[name] if layer is None else of_layers[name.replace(f".{layer}.", ".*.", 1), layer])
        for name, shape, layer in every_tensor(header)
    )
    keys: dict[str, int | float] = {
        "block_count": header.layer_count,
        "context_length": header.context_length,
        "embedding_length": header.embedding_length,
        "feed_forward_length": header.feed_forward_length,
        "attention.head_count": header.head_count,
        "attention.head_count_kv": header.head_count_kv[0],
        "attention.key_length": header.key_length,
        "attention.value_length": header.value_length,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1e6,
    }
    if header.expert_count:
        wide = next(group.shape[1] for group in header.tensors if group.name == "blk.*.ffn_up_exps.weight")
        keys |= {
            "expert_count": header.expert_count,
            "expert_used_count": header.expert_used_count,
            "expert_feed_forward_length": wide,
        }
    return write_sparse_gguf(SparseModel(header.architecture, keys, rows, header.vocabulary_size), path)


def placement_of(case: str) -> Placement:
    instance = instance_of(case)
    placement, problems = follow(Request(instance, Machine().devices(instance)), output_of(case))
    assert problems == ()
    assert placement is not None
    return placement


@pytest.mark.parametrize("case", HEADERS)
def test_every_device_takes_what_was_foreseen(case: str, cards: dict[str, str], tmp_path: Path) -> None:
    placement = placement_of(case)
    file = weights(HEADERS[case](), tmp_path / "model.gguf")

    server = LlamaServerMemory(find_llama_server(LLAMA_SERVER))
    measured = {one.device: one for one in server.measured(file, {**dict(arguments(placement)), **cards})}

    assert [load.device for load in placement.loads if not is_as_foreseen(load, measured[load.device])] == []


def test_everything_lands_where_it_was_placed(cards: dict[str, str], tmp_path: Path) -> None:
    """Keys with their layers, flash attention on, and as many splits as were foreseen."""
    placement = placement_of(DIVIDED)
    file = weights(HEADERS[DIVIDED](), tmp_path / "model.gguf")

    idle = idling(build_idle_host(tmp_path))
    report = loaded(file, {**dict(arguments(placement)), **cards, **idle}, tmp_path)

    assert compare(placement, report) == ()
    assert report.main is not None
    assert report.main.has_flash_attention
    assert placement.predicted is not None
    assert report.main.graph_splits == placement.predicted.splits
