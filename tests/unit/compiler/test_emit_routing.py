"""What the router is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from kloros_infra.compiler.emit import definition_of
from kloros_infra.compiler.emit_routing import emit_routing, routing_table
from kloros_infra.compiler.kept_instances import InstanceTexts
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.placed import card_shares
from kloros_infra.compiler.resolve import resolve
from kloros_infra.ir.announcements import News
from kloros_infra.ir.card_share import CONTEXT_BYTES
from kloros_infra.ir.catalog import Catalog, Instance
from kloros_infra.ir.catalog_services import BusAddresses
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.load_time import expected_load_s
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.placement import Placement
from kloros_infra.ir.requests import ClientAccess, Priority
from kloros_infra.ir.routing import RoutedCapacity, RoutedProfile, RoutingTable, Upstream
from kloros_infra.placement.engines.interface import FIT
from kloros_infra.placement.place import place
from tests.factories import a_catalog, a_lock_for, a_profile, a_serving, an_instance, kloros_cards
from tests.unit.compiler.test_resolve_requests import TEXT

LAYOUT = Layout()


def placed(instance: Instance) -> Placement:
    placement, _ = place(instance)
    assert placement is not None
    return placement


def upstream_of(instance: Instance, placement: Placement | None = None, texts: InstanceTexts | None = None) -> Upstream:
    placements = {instance.id: placement} if placement else {}
    table = routing_table(a_catalog(instance), LAYOUT, placements, {instance.id: texts} if texts else {})
    return table.models[0].upstreams[0]


def test_the_router_counts_on_the_context_that_a_placement_gives() -> None:
    instance = an_instance()
    lowered = {instance.id: replace(placed(instance), context_tokens=1024)}

    def context(placements: Mapping[InstanceId, Placement]) -> int:
        table = json.loads(emit_routing(a_catalog(instance), Layout(), placements))
        tokens: int = table["models"][0]["upstreams"][0]["context_tokens"]
        return tokens

    assert context(lowered) == 1024
    assert context({}) == instance.serving.context_tokens


def test_an_instance_says_how_long_it_stays() -> None:
    serving = replace(a_serving(preload=False), is_pinned=True, idle_timeout_s=60.0, drain_s=5.0, lease_s=7.0)

    upstream = upstream_of(an_instance(serving=serving))

    assert (upstream.is_pinned, upstream.idle_timeout_s, upstream.drain_s, upstream.lease_s) == (True, 60.0, 5.0, 7.0)
    assert upstream.load_s == round(expected_load_s(an_instance().model.weights.size_bytes), 1)


def test_an_instance_says_what_it_takes_of_cards_and_how_fast_it_is() -> None:
    instance = an_instance(profile=a_profile("max", *kloros_cards()))
    placement = placed(instance)
    upstream = upstream_of(instance, placement)
    shares = tuple(card_shares(placement))

    assert shares
    assert [(one.card, one.mib) for one in upstream.shares] == [(one.card, one.used_mib) for one in shares]
    assert placement.predicted is not None
    assert upstream.decode_tokens_per_s is not None
    assert abs(upstream.decode_tokens_per_s / placement.predicted.decode_tokens_per_s - 1) < 0.01
    assert upstream.prefill_tokens_per_s is not None
    by_itself = upstream_of(instance, replace(placement, engine=FIT))
    assert (by_itself.decode_tokens_per_s, by_itself.prefill_tokens_per_s) == (None, None)
    assert upstream_of(instance).shares == ()


def test_a_card_holds_what_the_most_careful_placement_was_told() -> None:
    first, second = (an_instance(profile=a_profile(name, *kloros_cards()[:1])) for name in ("one", "two"))
    placements = {one.id: placed(one) for one in (first, second)}
    told = placements[second.id].loads[0]
    assert told.capacity_bytes is not None
    least = told.capacity_bytes - 2**20
    fewer = replace(told, capacity_bytes=least)
    placements[second.id] = replace(placements[second.id], loads=(fewer, *placements[second.id].loads[1:]))

    table = routing_table(a_catalog(first, second), LAYOUT, placements)

    assert table.capacities == (RoutedCapacity(card=str(told.card), mib=(least + CONTEXT_BYTES) // 2**20),)


UNIT = "[Unit]\nDescription=one\nX-Kloros-Weights=aa\n[Service]\nExecStart=/bin/x --a\nMemoryMax=1G\nNice=1\n"
ENV = "A=1\n"


@pytest.mark.parametrize(("old", "new"), [("--a", "--b"), ("=aa", "=bb"), ("Nice=1", "Nice=2"), ("A=1", "A=2")])
def test_a_definition_changes_with_all_that_an_instance_is_started_by(old: str, new: str) -> None:
    assert definition_of(UNIT.replace(old, new), ENV.replace(old, new)) != definition_of(UNIT, ENV)


@pytest.mark.parametrize(("old", "new"), [("=one", "=two"), ("MemoryMax=1G", "MemoryMax=2G"), ("A=1", "# a\nA=1")])
def test_a_definition_stays_where_an_apply_restarts_nothing(old: str, new: str) -> None:
    assert definition_of(UNIT.replace(old, new), ENV.replace(old, new)) == definition_of(UNIT, ENV)


def test_an_upstream_has_the_definition_of_its_texts() -> None:
    assert upstream_of(an_instance(), texts=InstanceTexts(ENV, UNIT, "0f")).definition == "0f"
    assert upstream_of(an_instance()).definition == ""


def catalog_of(text: str) -> Catalog:
    parsed, _ = checked(parse(text, file="models.yaml"))
    return checked(resolve(parsed, a_lock_for(parsed.config)))[0]


def test_everything_that_is_said_of_requests_arrives() -> None:
    table = routing_table(catalog_of(TEXT), LAYOUT)

    small, far, plain = table.models
    assert (small.group, small.data_class) == ("turns", "private")
    assert (far.id, far.upstreams, far.size_bytes, far.version_id, far.data_class) == ("far", (), 0, "", "public")
    assert plain.data_class is None
    voice, deep = table.purposes
    assert (voice.max_latency_s, voice.max_cost_tier, voice.priority) == (2.0, "medium", Priority.VOICE)
    assert voice.can_continue_elsewhere
    assert [mark.contains for mark in voice.marks] == [("hello",)]
    assert (deep.marks, deep.priority) == ((), Priority.INTERACTIVE)
    gaming, _ = table.hosts
    assert (gaming.models, gaming.health_failures) == ({"small": "small:7b", "far": "far:70b"}, 2)
    assert (gaming.priority, gaming.is_tls, gaming.credential) == (10, True, "gaming")
    assert table.policies.unknown_clients is ClientAccess.REFUSE
    assert [client.name for client in table.policies.clients] == ["voice", "all"]
    assert table.policies.data_classes == ("public", "private")
    assert (table.bridge.credential, table.bridge.max_queued) == ("bridge-keys", 4)
    assert (table.bridge.first_byte_timeout_s, table.bridge.stall_timeout_s) == (60.0, 5.0)
    assert table.metrics_port == 9464
    assert table.announcements is not None
    assert (table.announcements.kinds, table.announcements.least_interval_s) == (("profile", "card"), 60.0)
    assert table.announcements.texts[News.CARD_GONE] == "{card} fehlt"
    assert table.announcements.texts[News.REMOTE_DISABLED] == "Remote disabled"
    open_to_all = routing_table(catalog_of(TEXT.replace("refuse", "allow")), LAYOUT)
    assert open_to_all.policies.unknown_clients is ClientAccess.ALLOW


def test_everything_that_is_said_of_cards_arrives() -> None:
    gpus = """
gpus:
  rtx5080: {host: box, uuid: GPU-00000000-0000-0000-0000-000000000001, name: RTX 5080, lockout: true}
  rtx3060: {host: box, uuid: GPU-00000000-0000-0000-0000-000000000002, name: RTX 3060, shared_with: games}
profiles:
  max:
    gpus: [rtx5080, rtx3060]
    conditions: {leave_above: 3GiB, take_below: 600MiB}
    regain_after: 1m
    release_after: 10s
  mid: {gpus: [rtx3060]}
  cpu_only: {gpus: []}
"""
    table = routing_table(catalog_of(TEXT.replace("profiles: {cpu_only: {gpus: []}}\n", gpus)), LAYOUT)

    best, less, none = table.profiles
    assert [(card.name, card.is_locked, card.shared_with) for card in best.cards] == [
        ("rtx5080", True, None),
        ("rtx3060", False, "games"),
    ]
    assert all(11 * 1024 < card.vram_mib < 16 * 1024 for card in best.cards)
    assert (best.leave_above_mib, best.take_below_mib) == (3072, 600)
    assert (best.regain_after_s, best.release_after_s) == (60.0, 10.0)
    # What is not said is as it is for a profile that says nothing.
    assert less == RoutedProfile(name="mid", cards=best.cards[1:])
    assert none == RoutedProfile(name="cpu_only", cards=())
    assert table.cards_file == "/run/kloros/gpu_cards.json"
    assert routing_table(catalog_of(TEXT), LAYOUT).cards_file is None


def test_a_table_is_read_as_it_was_written() -> None:
    for catalog in (catalog_of(TEXT), a_catalog()):
        text = emit_routing(catalog, LAYOUT)

        assert RoutingTable.model_validate_json(text) == routing_table(catalog, LAYOUT)
    plain: dict[str, Any] = json.loads(text)
    assert not plain.keys() & {"hosts", "policies", "metrics_port", "announcements"}


def test_files_of_the_router_lie_where_the_installation_does() -> None:
    bus = BusAddresses("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", is_managed=True, direct="ipc:///run/kloros-router/d")
    table = routing_table(a_catalog(bus=bus), Layout(prefix="/home/me/kloros"))

    assert table.bus.direct == "ipc:///home/me/kloros/run/kloros-router/d"
    assert table.leases_file == "/home/me/kloros/var/lib/kloros-router/leases.jsonl"
    assert table.control_socket == "/home/me/kloros/run/kloros-router/control.sock"
    assert routing_table(a_catalog(bus=replace(bus, direct=None)), LAYOUT).bus.direct is None
