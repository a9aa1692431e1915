"""What the router's own unit may do, and what its user may do with others' units."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from kloros_infra.adapters.templates import read_templates
from kloros_infra.compiler.emit_host import LLAMA_USER, ROUTER_USER
from kloros_infra.compiler.emit_polkit import UNITS, VERBS, emit_polkit
from kloros_infra.compiler.emit_services import emit_services
from kloros_infra.compiler.reach import addresses_of
from kloros_infra.compiler.rendering import rendering
from kloros_infra.ir.artifact import TextFile
from kloros_infra.ir.catalog import Catalog
from kloros_infra.ir.catalog_requests import Client, HealthCheck, RemoteHost
from kloros_infra.ir.catalog_services import BridgeAddresses
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.names import BUS_UNIT, ROUTER_UNIT, InstanceId
from kloros_infra.ir.requests import UpstreamKind
from tests.factories import a_catalog

PREPARED = rendering(read_templates(), Layout())


def a_host(
    address: str = "100.64.0.7", *, name: str = "gaming", toggle: str | None = None, credential: str | None = None
) -> RemoteHost:
    return RemoteHost(
        name=name,
        kind=UpstreamKind.OLLAMA,
        address=address,
        port=11434,
        path="",
        is_tls=False,
        priority=100,
        toggle=toggle,
        credential=credential,
        health=HealthCheck("/health", 10.0, 2.0, 3),
        models=(("small", "small"),),
    )


def a_client(name: str, credential: str | None) -> Client:
    return Client(name, (name,), credential, None, None, None, None, None, None)


def lines_of(unit: str, catalog: Catalog) -> Sequence[str]:
    return dict(emit_services(catalog, PREPARED))[unit].splitlines()


def values_of(key: str, lines: Sequence[str]) -> list[str]:
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def test_the_router_has_a_user_a_folder_and_a_socket_of_its_own() -> None:
    router, bus = (lines_of(unit, a_catalog()) for unit in (ROUTER_UNIT, BUS_UNIT))
    layout = Layout()

    assert values_of("User", router) == [ROUTER_USER]
    assert values_of("User", bus) != [ROUTER_USER] != [LLAMA_USER]
    assert values_of("SupplementaryGroups", router) == ["systemd-journal"]
    assert [f"var/lib/{name}" for name in values_of("StateDirectory", router)] == [layout.router_state]
    assert [f"run/{name}" for name in values_of("RuntimeDirectory", router)] == [layout.router_run]
    assert layout.leases_file.startswith(f"{layout.router_state}/")
    assert layout.control_socket.startswith(f"{layout.router_run}/")
    assert not [key for key in ("SupplementaryGroups", "StateDirectory", "RuntimeDirectory") if values_of(key, bus)]


def test_secrets_are_named_once_and_never_written() -> None:
    catalog = replace(
        a_catalog(bridge=BridgeAddresses("127.0.0.1", (11434,), credential="bridge-keys")),
        clients=(a_client("voice", "voice-keys"), a_client("more", "bridge-keys"), a_client("open", None)),
        remote_hosts=(a_host(credential="gaming"), a_host(name="quiet")),
    )

    assert values_of("LoadCredential", lines_of(ROUTER_UNIT, catalog)) == [
        "bridge-keys:kloros-infra.bridge-keys",
        "gaming:kloros-infra.gaming",
        "voice-keys:kloros-infra.voice-keys",
    ]
    assert values_of("LoadCredential", lines_of(ROUTER_UNIT, a_catalog())) == []
    assert values_of("LoadCredential", lines_of(BUS_UNIT, catalog)) == []


def test_the_router_reaches_remote_hosts_and_nobody_else() -> None:
    catalog = replace(a_catalog(), remote_hosts=(a_host(), a_host("fd00::7", name="quiet")))

    assert values_of("IPAddressAllow", lines_of(ROUTER_UNIT, a_catalog())) == ["localhost"]
    assert values_of("IPAddressAllow", lines_of(ROUTER_UNIT, catalog)) == ["localhost", "100.64.0.7", "fd00::7"]
    assert values_of("IPAddressAllow", lines_of(BUS_UNIT, catalog)) == ["localhost"]
    assert values_of("IPAddressDeny", lines_of(ROUTER_UNIT, catalog)) == ["any"]


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ((), ()),
        ((a_host("127.0.0.1"),), ()),
        ((a_host("127.0.0.1"), a_host("::1")), ()),
        ((a_host(), a_host()), ("100.64.0.7",)),
        ((a_host(toggle="http://100.64.0.9:8888/status"),), ("100.64.0.7", "100.64.0.9")),
        ((a_host(toggle="http://[fd00::9]/status"),), ("100.64.0.7", "fd00::9")),
        ((a_host(), a_host("gaming.lan")), ("any",)),
        ((a_host(toggle="https://gaming.lan/status"),), ("any",)),
    ],
)
def test_only_a_name_opens_the_unit_to_all(hosts: tuple[RemoteHost, ...], addresses: tuple[str, ...]) -> None:
    assert addresses_of(hosts) == addresses


def the_rule() -> str:
    ((path, file),) = emit_polkit(PREPARED)
    assert path == "etc/polkit-1/rules.d/50-kloros-infra.rules"
    assert isinstance(file, TextFile)
    return file.text


def test_the_rule_is_for_one_action_one_user_and_units_of_models() -> None:
    text = the_rule()

    assert text.count("polkit.addRule(") == 1
    assert text.count("polkit.Result.YES") == 1
    assert 'action.id !== "org.freedesktop.systemd1.manage-units"' in text
    assert f'subject.user !== "{ROUTER_USER}"' in text
    assert f"var verbs = {json.dumps(VERBS)};" in text
    assert f"/{UNITS}/.test(" in text
    # polkit(8): authorization rules must conform to ECMA-262 edition 5.
    assert not re.search(r"=>|\b(?:let|const|class)\b|`", text)
    for opening, closing in ("()", "{}", "[]"):
        assert text.count(opening) == text.count(closing)


@pytest.mark.parametrize(
    ("unit", "is_model"),
    [
        (InstanceId("code", "max").unit, True),
        (InstanceId("qwen2.5-coder_7b-q4", "cpu_only").unit, True),
        ("llama@code.service", False),
        ("llama@.service", False),
        ("llama@code-max.service.d", False),
        ("llama@code-max.service\nsshd.service", False),
        ("llama@code-max.timer", False),
        ("kloros-router.service", False),
        ("xllama@code-max.service", False),
        ("llama@code-max/../sshd.service", False),
        ("undefined", False),
    ],
)
def test_names_of_models_units_are_told_from_all_others(unit: str, is_model: bool) -> None:
    # ECMAScript's `$` is the end of the text, as \Z is here.
    assert (re.search(UNITS.replace("$", r"\Z"), unit) is not None) is is_model
