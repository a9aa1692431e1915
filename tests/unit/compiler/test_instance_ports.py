"""Ports that models.yaml leaves out are found beside those that it gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kloros_infra.compiler.instance_ports import Ports, instance_ports, left_out
from kloros_infra.compiler.parse import parse
from kloros_infra.compiler.pipeline import checked
from kloros_infra.compiler.resolve import resolve
from kloros_infra.compiler.unique import listeners
from kloros_infra.ir.config import Config
from tests.factories import a_lock_for

PROFILES = ("max", "mid", "cpu_only")
HEAD = """\
version: 1
hosts: {box: {role: local}}
gpus: {card: {host: box, pci: "0000:01:00.0", vram: 12GiB, name: rtx3060}}
profiles: {max: {gpus: [card]}, mid: {gpus: [card]}, cpu_only: {gpus: []}}
bus: {xsub: "tcp://127.0.0.1:5556", xpub: "tcp://127.0.0.1:5557", direct: off}
observability: {metrics_port: 8603}
bridge: {ports: [8605]}
models:
"""


def text_of(*models: dict[str, int | None]) -> str:
    """Write a models.yaml: a port for each profile, None where it is left out."""
    return HEAD + "".join(
        f"  - {{id: m{number}, purpose_tags: [fast], context_tokens: 512, versions: [{{version_id: v1, "
        f"gguf_url: file:///m{number}.gguf}}], profiles: {{{', '.join(map(_profile, ports, ports.values()))}}}}}\n"
        for number, ports in enumerate(models)
    )


def _profile(name: str, port: int | None) -> str:
    return f"{name}: {{{'' if port is None else f'port: {port}'}}}"


def config_of(*models: dict[str, int | None]) -> Config:
    return checked(parse(text_of(*models), file="models.yaml"))[0].config


def test_what_is_given_stays_and_what_is_left_out_follows_it() -> None:
    config = config_of({"max": 8601, "mid": None, "cpu_only": 8602}, {"max": 8611, "cpu_only": None}, {})

    # 8602 is given, 8603 are the metrics.
    assert instance_ports(config) == ({"max": 8601, "mid": 8604, "cpu_only": 8602}, {"max": 8611, "cpu_only": 8612}, {})
    assert [left_out(model) for model in config.models] == [("mid",), ("cpu_only",), ()]


@pytest.mark.parametrize(("first", "next_one"), [(65535, 1024), (32767, 61000), (80, 1024)])
def test_only_ports_are_found_that_can_be_counted_on(first: int, next_one: int) -> None:
    assert instance_ports(config_of({"max": first, "mid": None}))[0] == {"max": first, "mid": next_one}


def test_an_instance_knows_whether_its_port_is_its_own() -> None:
    parsed, _ = checked(parse(text_of({"max": 8601, "mid": None}), file="models.yaml"))
    catalog = checked(resolve(parsed, a_lock_for(parsed.config)))[0]

    assert [(one.port, one.has_own_port) for one in catalog.instances] == [(8601, True), (8602, False)]


MODELS = st.lists(
    st.dictionaries(st.sampled_from(PROFILES), st.none() | st.integers(8601, 8612)), min_size=1, max_size=4
)


@given(MODELS)
def test_what_is_left_out_takes_nobodys_port(models: list[dict[str, int | None]]) -> None:
    given_ports = [port for ports in models for port in ports.values() if port is not None]
    config = config_of(*models)
    found: tuple[Ports, ...] = instance_ports(config)

    derived = [found[at][name] for at, ports in enumerate(models) for name, port in ports.items() if port is None]
    assert not set(derived) & {*given_ports, 5556, 5557, 8603, 8605}
    assert len(set(derived)) == len(derived)
    assert [list(ports) for ports in found] == [list(ports) for ports in models]
    assert {one.port for one in listeners(config)} >= set(derived)
