"""What hosts get that lend their cards, and what the local host gets to use them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_rpc import emit_parts, server_words, with_parts
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.placing import place_all
from kloros_infra.compiler.resolve import resolve
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import InstanceId
from kloros_infra.ir.routing import RoutingTable
from kloros_infra.ir.rpc_server import AWAITED_KEY, HostPart, read_awaited
from kloros_infra.ir.unit_keys import unit_keys
from tests.emit_cases import EMIT_CASES, case_catalog, compile_case
from tests.factories import a_lock_for

TWO_HOSTS = next(case for case in EMIT_CASES if case.name == "two_hosts")
LAYOUT = Layout()


def catalog_of(text: str) -> Catalog:
    parsed, _ = checked(parse(text, file="models.yaml"))
    return checked(resolve(parsed, a_lock_for(parsed.config)))[0]


def parts_of(catalog: Catalog) -> tuple[HostPart, ...]:
    return emit_parts(catalog, checked(place_all(catalog))[0], read_templates(), LAYOUT)


def text_of(case: Path, path: str) -> str:
    artifact = compile_case(case)[path]
    assert isinstance(artifact, TextFile)
    return artifact.text


def test_each_instance_on_cards_of_a_host_has_a_server_there() -> None:
    (part,) = parts_of(case_catalog(TWO_HOSTS))

    assert part.host.name == "gaming"
    assert [(one.unit, one.endpoint, [card.name for card in one.cards]) for one in part.servers] == [
        ("kloros-rpc@deep-max.service", "100.64.0.7:9611", ["rtx5080", "rtx3070"]),
        ("kloros-rpc@tiny-max.service", "100.64.0.7:9621", ["rtx3070"]),
    ]
    assert server_words(part.servers[0])[-1] == "CUDA0,CUDA1"


def test_the_port_of_an_instance_does_not_depend_on_where_others_are_placed() -> None:
    (host,) = case_catalog(TWO_HOSTS).rpc_hosts

    assert host.port_of(InstanceId("chat", "max")) == 9601, "kept for it, although it is on local cards"
    assert host.port_of(InstanceId("deep", "max")) == 9611
    assert "chat-mid" not in {str(instance) for instance, _ in host.ports}, "its profile has no card of this host"


def test_a_model_that_comes_or_goes_moves_no_port() -> None:
    """Hosts are applied one after the other: until then an instance would talk to another one's server."""
    text = (TWO_HOSTS / "models.yaml").read_text()
    chat, deep = text.index("  - id: chat\n"), text.index("  - id: deep\n")
    first = text[deep : text.index("  - id: tiny\n")].replace("deep", "first").replace("8611", "8631")
    without = text[:chat] + text[deep:].replace("[chat, tiny]", "[tiny]")

    more, fewer = (dict(catalog_of(one).rpc_hosts[0].ports) for one in (text[:chat] + first + text[chat:], without))

    before = dict(case_catalog(TWO_HOSTS).rpc_hosts[0].ports)
    assert more == {InstanceId("first", "max"): 9631, **before}
    assert {InstanceId("chat", "max"): 9601, **fewer} == before


def test_a_host_is_reached_by_its_client_alone_and_by_one_interface() -> None:
    keys = unit_keys(
        text_of(TWO_HOSTS, "hosts/gaming/etc/kloros-infra/current/units/kloros-rpc@tiny-max.service"),
    )

    assert keys["Service.IPAddressDeny"] == "any"
    assert keys["Service.IPAddressAllow"] == "100.64.0.3", "neither its own users nor pages in their browsers"
    assert keys["Service.RestrictNetworkInterfaces"] == "tailscale0"
    assert "--host 100.64.0.7 --port 9621" in keys["Service.ExecStart"]


def test_an_instance_waits_for_its_servers_and_may_speak_to_them() -> None:
    folder = "etc/kloros-infra/current/units"
    away, at_home = (unit_keys(text_of(TWO_HOSTS, f"{folder}/llama@{name}-max.service")) for name in ("deep", "chat"))

    assert away["Service.ExecStartPre"].endswith("kloros-infra await_rpc 100.64.0.7:9611")
    assert away["Service.TimeoutStartSec"] == "infinity", "a host may be away for a night"
    assert read_awaited(away[f"Unit.{AWAITED_KEY}"]) == ("100.64.0.7:9611",)
    assert away["Service.IPAddressAllow"].split("\n") == ["localhost", "100.64.0.7"]
    assert "Service.ExecStartPre" not in at_home
    assert at_home["Service.TimeoutStartSec"] == "30"
    assert f"Unit.{AWAITED_KEY}" not in at_home
    assert at_home["Service.IPAddressAllow"] == "localhost"


def test_the_choice_of_the_profile_can_ask_the_host() -> None:
    keys = unit_keys(text_of(TWO_HOSTS, "etc/kloros-infra/current/units/kloros-profile.service"))
    table = RoutingTable.model_validate(json.loads(text_of(TWO_HOSTS, LAYOUT.routing)))

    assert keys["Service.IPAddressAllow"] == "100.64.0.7"
    assert "Service.PrivateNetwork" not in keys
    links = {card.name: card.remote for card in table.profiles[0].cards}
    assert links["rtx3060"] is None
    assert links["rtx5080"] is not None
    assert (links["rtx5080"].address, links["rtx5080"].ports) == ("100.64.0.7", (9601, 9611, 9621))


def test_a_host_whose_cards_no_plan_uses_gets_nothing() -> None:
    text = (TWO_HOSTS / "models.yaml").read_text()
    for layers in ("{rtx5080: 9, rtx3060: 12, rtx3070: 8}", "{rtx3070: 29}"):
        text = text.replace(layers, "{rtx3060: 29}")

    assert parts_of(catalog_of(text)) == ()
    assert with_parts({"a": TextFile("")}, ()) == {"a": TextFile("")}


@pytest.mark.parametrize(
    ("written", "program"),
    [
        ("", "/opt/llama.cpp/ggml-rpc-server"),
        (", program: /usr/bin/rpc-server", "/usr/bin/rpc-server"),
    ],
)
def test_the_server_is_beside_llama_server_unless_it_is_said_where(written: str, program: str) -> None:
    text = (TWO_HOSTS / "models.yaml").read_text().replace("port_offset: 1000", f"port_offset: 1000{written}")

    (host,) = catalog_of(text).rpc_hosts

    assert (host.program, host.clients) == (program, ("100.64.0.3",))


def test_models_that_other_hosts_serve_need_no_port() -> None:
    text = (TWO_HOSTS / "models.yaml").read_text()
    other = text.replace(
        "  - id: deep\n",
        "  - {id: served, display_name: Served, purpose_tags: [deep], context_tokens: 4096, cost_tier: low}\n"
        "  - id: deep\n",
    ).replace(
        "    rpc: {interface",
        "    upstream: {kind: ollama, port: 11434, models: {served: 'qwen3:8b'}}\n    rpc: {interface",
    )

    assert catalog_of(other).rpc_hosts == case_catalog(TWO_HOSTS).rpc_hosts


def test_the_order_of_placements_does_not_matter() -> None:
    catalog = case_catalog(TWO_HOSTS)
    placements, _ = checked(place_all(catalog))
    backwards = dict(reversed(list(placements.items())))

    assert emit_parts(catalog, backwards, read_templates(), LAYOUT) == parts_of(catalog)
    assert emit_parts(replace(catalog, rpc_hosts=()), placements, read_templates(), LAYOUT) == ()
