"""What models.yaml says of requests arrives in the catalog: purposes, clients, and who answers beside this host."""

from __future__ import annotations

import pytest

from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.resolve_requests import health_path
from kloros_infra.ir.catalog import Catalog, CostTier, ModelKind, Purpose
from kloros_infra.ir.catalog_requests import Client, HealthCheck, RemoteHost, RemoteModel
from kloros_infra.ir.requests import Mark, Priority, UpstreamKind
from tests.factories import a_lock_for

TEXT = """\
version: 1
hosts:
  box: {}
  gaming:
    role: remote
    address: 192.0.2.7
    upstream:
      kind: ollama
      port: 11434
      path: /v1
      tls: true
      priority: 10
      toggle: "http://192.0.2.7:8888/status"
      credential: gaming
      health: {path: /ready, interval: 5s, timeout: 1s, failures: 2}
      models: {small: "small:7b", far: "far:70b"}
  quiet: {role: remote, address: 192.0.2.8, upstream: {kind: llama_cpp, port: 8080, models: {plain: plain}}}
profiles: {cpu_only: {gpus: []}}
models:
  - id: small
    context_tokens: 2048
    group: turns
    data_class: private
    versions: [{version_id: "1", gguf_url: file:///small.gguf}]
    profiles: {cpu_only: {port: 8601}}
  - {id: far, name: away, display_name: Far away, kind: vision, aliases: [beyond], purpose_tags: [deep],
     languages: [python], context_tokens: 4096, cost_tier: high, data_class: public}
  - {id: plain, context_tokens: 512}
purposes:
  voice:
    candidates: [small]
    otherwise: deep
    default: true
    max_latency: 2s
    max_cost_tier: medium
    priority: voice
    continue_elsewhere: true
    when:
      - {contains: [hello], model: "*voice*", source: [kloros-voice], kind: chat, has_images: false, has_tools: false,
         min_tokens: 3}
  deep: {candidates: [far]}
policies:
  data_classes: [public, private]
  unknown_clients: refuse
  clients:
    voice: {sources: [kloros-voice], credential: voice-keys, models: [small], purposes: [voice], data_class: private,
            priority: voice, max_queued: 8, requests_per_minute: 60}
    all: {sources: [kloros]}
bridge: {credential: bridge-keys, max_queued: 4, first_byte_timeout: 1m, stall_timeout: 5s}
observability:
  announce: true
  announcements: {kinds: [profile, card], least_interval: 1m, urgency: 0.9, texts: {card_gone: "{card} fehlt"}}
  metrics_port: 9464
"""


def catalog(text: str = TEXT) -> Catalog:
    parsed, _ = checked(parse(text, file="models.yaml"))
    return checked(resolve(parsed, a_lock_for(parsed.config)))[0]


def test_purposes_say_who_is_meant_and_what_they_bear() -> None:
    mark = Mark(
        contains=("hello",),
        model="*voice*",
        sources=("kloros-voice",),
        kind=ModelKind.CHAT,
        has_images=False,
        has_tools=False,
        min_tokens=3,
    )

    assert catalog().purposes == (
        Purpose(
            "voice",
            ("small",),
            "deep",
            is_default=True,
            priority=Priority.VOICE,
            marks=(mark,),
            max_latency_s=2.0,
            max_cost_tier=CostTier.MEDIUM,
            can_continue_elsewhere=True,
        ),
        Purpose("deep", ("far",), None, is_default=False, priority=Priority.INTERACTIVE),
    )


def test_clients_say_what_they_may_ask_for() -> None:
    found = catalog()

    assert found.clients == (
        Client("voice", ("kloros-voice",), "voice-keys", ("small",), ("voice",), "private", Priority.VOICE, 8, 60),
        Client("all", ("kloros",), None, None, None, None, None, None, None),
    )
    assert (found.refuses_unknown_clients, found.data_classes) == (True, ("public", "private"))
    assert not catalog(TEXT.replace("  unknown_clients: refuse\n", "")).refuses_unknown_clients


def test_remote_hosts_say_how_they_are_asked() -> None:
    assert catalog().remote_hosts == (
        RemoteHost(
            "gaming",
            UpstreamKind.OLLAMA,
            "192.0.2.7",
            11434,
            "/v1",
            is_tls=True,
            priority=10,
            toggle="http://192.0.2.7:8888/status",
            credential="gaming",
            health=HealthCheck("/ready", 5.0, 1.0, 2),
            models=(("small", "small:7b"), ("far", "far:70b")),
        ),
        RemoteHost(
            "quiet",
            UpstreamKind.LLAMA_CPP,
            "192.0.2.8",
            8080,
            "",
            is_tls=False,
            priority=100,
            toggle=None,
            credential=None,
            health=HealthCheck("/health", 10.0, 2.0, 3),
            models=(("plain", "plain"),),
        ),
    )


def test_models_of_remote_hosts_alone_are_known() -> None:
    far = RemoteModel(
        "far",
        "away",
        "Far away",
        ModelKind.VISION,
        ("beyond",),
        ("deep",),
        ("python",),
        4096,
        CostTier.HIGH,
        "public",
    )
    plain = RemoteModel("plain", "plain", "plain", ModelKind.CHAT, (), (), (), 512, CostTier.MEDIUM, None)

    assert catalog().remote_models == (far, plain)
    assert [(model.id, model.group, model.data_class) for model in catalog().models] == [("small", "turns", "private")]


def test_the_bridge_and_what_is_told_outside_are_taken_over() -> None:
    found = catalog()
    bridge = found.bridge

    assert (bridge.credential, bridge.max_queued) == ("bridge-keys", 4)
    assert (bridge.first_byte_timeout_s, bridge.stall_timeout_s) == (60.0, 5.0)
    assert found.metrics_port == 9464
    assert found.announcements is not None
    assert found.announcements.urgency == 0.9


@pytest.mark.parametrize(
    ("kind", "path", "asked"),
    [
        (UpstreamKind.LLAMA_CPP, "", "/health"),
        (UpstreamKind.LLAMA_CPP, "/prefix/v1/", "/prefix/health"),
        (UpstreamKind.OLLAMA, "/v1", "/api/version"),
        (UpstreamKind.OPENAI, "", "/v1/models"),
        (UpstreamKind.OPENAI, "/api/v1", "/api/v1/models"),
        (UpstreamKind.OPENAI, "/api", "/api/v1/models"),
    ],
)
def test_each_kind_of_server_is_asked_what_it_answers(kind: UpstreamKind, path: str, asked: str) -> None:
    assert health_path(kind, path) == asked


@pytest.mark.parametrize(
    ("written", "direct"),
    [
        ("off", None),
        ("tcp://127.0.0.1:5999", "tcp://127.0.0.1:5999"),
        ("ipc:///run/kloros-router/direct", "ipc:///run/kloros-router/direct"),
        ("null", "tcp://127.0.0.1:5555"),
    ],
)
def test_the_router_is_asked_directly_unless_that_is_off(written: str, direct: str | None) -> None:
    assert catalog(f"{TEXT}bus: {{direct: {written!r}}}\n".replace("'null'", "null")).bus.direct == direct
