"""Cards as they are there, in place of what is written of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.compiler.detected import with_detected
from kloros_infra.compiler.emit_routing import routing_table
from kloros_infra.compiler.parse import Parsed, parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.resolve import build_catalog
from kloros_infra.compiler.shelf import digests_of
from kloros_infra.compiler.sources import Sources
from kloros_infra.ir.config_machine import GpuSpec
from kloros_infra.ir.config_requests import PoliciesSpec
from kloros_infra.ir.detected_card import DetectedCard
from kloros_infra.ir.layout import Layout
from tests.factories import a_lock_for

PLAIN = (Path(__file__).parents[2] / "cases" / "diagnostics" / "nothing_wrong" / "models.yaml").read_text()
GIB = 2**30
FIGURES = 'vram: 16GiB, bandwidth: 960GB/s, compute_capability: "12.0", measured: {decode: 0.9}'
UUIDS = "uuid: GPU-00000000-0000-0000-0000-000000000001, "
SEEN = DetectedCard("card", "GPU-00000000-0000-0000-0000-000000000001", "0000:01:00.0", 16303 * 2**20)


def parsed(gpu: str) -> Parsed:
    text = f"""\
version: 1
hosts: {{box: {{}}}}
gpus:
  card: {{host: box, {gpu}}}
  other: {{host: box, pci: "0000:09:00.0", vram: 8GiB, bandwidth: 1GB/s, compute_capability: "8.6"}}
profiles: {{max: {{gpus: [card]}}}}
models:
  - id: small
    display_name: Small
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    versions: [{{version_id: "1", gguf_url: file:///weights/small.gguf}}]
    profiles: {{max: {{port: 8601}}}}
"""
    return checked(parse(text, file="models.yaml"))[0]


def found(gpu: str, card: DetectedCard = SEEN) -> GpuSpec:
    before = parsed(gpu)
    after = with_detected(before, (card,))
    assert after.config.gpus["other"] == before.config.gpus["other"]
    assert after.source is before.source
    return after.config.gpus["card"]


def test_what_is_as_it_is_written_stays() -> None:
    before = parsed(f"{UUIDS}pci: '0000:01:00.0', {FIGURES}")
    assert with_detected(before, (SEEN,)).config == before.config
    assert with_detected(before, ()) is before


def test_a_card_gets_the_uuid_and_the_place_that_it_has() -> None:
    moved = found(f"{UUIDS}pci: '0000:05:00.0', {FIGURES}")
    assert (moved.uuid, moved.pci, moved.vram) == (SEEN.uuid, "0000:01:00.0", 16 * GIB)
    named = found(f"pci: '0000:01:00.0', {FIGURES}")
    assert named.uuid == SEEN.uuid
    unknown = found(f"pci: '0000:01:00.0', {FIGURES}", DetectedCard("card"))
    assert (unknown.uuid, unknown.pci) == (None, "0000:01:00.0")


@pytest.mark.parametrize(("uuid", "gib", "expected"), [(UUIDS, 12, 12), (UUIDS, 24, 16), ("", 24, 24)])
def test_a_card_gets_other_memory_where_that_is_no_wish(uuid: str, gib: int, expected: int) -> None:
    seen = replace(SEEN, total_bytes=gib * GIB)
    assert found(f"{uuid}pci: '0000:01:00.0', {FIGURES}", seen).vram == expected * GIB


def test_memory_that_nobody_knows_is_not_compared() -> None:
    assert found(f"{UUIDS}pci: '0000:01:00.0'").vram is None  # a later pass tells that figures are missing


def test_another_card_has_figures_of_its_own_where_they_are_known() -> None:
    other = DetectedCard("card", "GPU-b", "0000:01:00.0", 12282 * 2**20, "NVIDIA GeForce RTX 4070", has_replaced=True)
    written = f"{UUIDS}pci: '0000:01:00.0', name: NVIDIA GeForce RTX 5080, {FIGURES}"
    card = found(written, other)
    assert (card.name, card.vram, card.bandwidth, card.measured.decode) == (other.model, 12288 * 2**20, None, 1.0)
    assert card.uuid == "GPU-b"
    unknown = found(written, replace(other, model="NVIDIA Something", total_bytes=10 * GIB))
    assert (unknown.name, unknown.bandwidth, unknown.vram) == ("NVIDIA GeForce RTX 5080", 960_000_000_000, 10 * GIB)


def sources(*cards: DetectedCard) -> Sources:
    return Sources(PLAIN, "models.yaml", None, "models.lock.yaml", {}, detected=cards)


def test_what_an_earlier_compile_kept_is_of_the_same_cards() -> None:
    digests = [
        digests_of(one, {}, Layout()).whole for one in (sources(), sources(SEEN), sources(replace(SEEN, uuid="x")))
    ]
    assert len(set(digests)) == 3


def test_the_router_s_table_knows_the_cards_that_no_profile_needs() -> None:
    plain = parsed(f"{UUIDS}pci: '0000:01:00.0', {FIGURES}")
    catalog = build_catalog(plain.config, a_lock_for(plain.config))
    assert [card.name for card in catalog.unused_cards] == ["other"]
    assert [card.pci for card in routing_table(catalog, Layout()).unused_cards] == ["0000:09:00.0"]
    assert not catalog.applies_hardware_changes
    applying = plain.config.model_copy(update={"policies": PoliciesSpec(on_gpu_change="apply")})
    assert build_catalog(applying, a_lock_for(applying)).applies_hardware_changes
