"""The names that llama.cpp gives to cards.

A server is shown the cards that its plan uses and no others: it opens a CUDA context on each card that it sees, and
keeps it (common/common.cpp, where it lists the devices at start).

It numbers the devices of all RPC servers that it is told of, server by server (ggml-rpc.cpp,
ggml_backend_rpc_add_server: RPC0, RPC1, …), and names their buffers, which `--override-tensor` takes, by number within
the server and its endpoint: RPC0[100.64.0.7:50052]. A server is told of only where a plan uses one of its cards. So
names are settled after placing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kloros_infra.ir.catalog import Card, Instance, RpcHost
from kloros_infra.ir.placement import Placement, Prediction, RemoteDevice, TensorException


def device_names(cards: Iterable[Card]) -> dict[str, str]:
    """Name cards as llama.cpp will when it is shown these: CUDA0, … in this order, RPC0, … host by host."""
    cards = tuple(cards)
    local = (card.name for card in cards if card.remote is None)
    remote = (card.name for card in by_host(cards))
    return {
        **{name: f"CUDA{index}" for index, name in enumerate(local)},
        **{name: f"RPC{index}" for index, name in enumerate(remote)},
    }


def by_host(cards: Sequence[Card]) -> tuple[Card, ...]:
    """Put the cards of other hosts together by host, hosts and cards in the order in which they come."""
    remote = [card for card in cards if card.remote is not None]
    hosts = dict.fromkeys(card.host for card in remote)
    return tuple(card for host in hosts for card in remote if card.host == host)


def used_remotely(placement: Placement, instance: Instance) -> tuple[Card, ...]:
    """List the cards of other hosts that a placement uses, host by host."""
    used = {load.card for load in placement.loads}
    return tuple(card for card in by_host(instance.profile.cards) if card.name in used)


def shown_cards(placement: Placement, instance: Instance) -> tuple[Card, ...]:
    """List the cards of this host that a server is shown: those that it uses, in the profile's order."""
    used = {load.card for load in placement.loads}
    return tuple(card for card in instance.profile.local_cards if card.name in used)


def numbered(placement: Placement, instance: Instance, hosts: Sequence[RpcHost]) -> Placement:
    """Give cards the names that they have once unused ones are left out, and those of other hosts their endpoints."""
    remote = used_remotely(placement, instance)
    final = device_names((*shown_cards(placement, instance), *remote))
    before = {load.card: load.device for load in placement.loads if load.card is not None}
    named = _renamed(placement, {device: final[card] for card, device in before.items()})
    known = {host.name: host for host in hosts}
    return replace(named, remotes=tuple(_remotes(remote, final, instance, known)))


def _remotes(
    cards: Sequence[Card], names: Mapping[str, str], instance: Instance, hosts: Mapping[str, RpcHost]
) -> Iterator[RemoteDevice]:
    for card in cards:
        host = hosts[card.host]
        index = [one.name for one in cards if one.host == card.host].index(card.name)
        yield RemoteDevice(names[card.name], f"{host.address}:{host.port_of(instance.id)}", index)


def _renamed(placement: Placement, names: Mapping[str, str]) -> Placement:
    def name(device: str) -> str:
        return names.get(device, device)

    return replace(
        placement,
        layer_devices=tuple(map(name, placement.layer_devices)),
        exceptions=tuple(TensorException(one.pattern, name(one.device)) for one in placement.exceptions),
        loads=tuple(replace(load, device=name(load.device)) for load in placement.loads),
        predicted=_prediction(placement.predicted, names),
    )


def _prediction(predicted: Prediction | None, names: Mapping[str, str]) -> Prediction | None:
    if predicted is None:
        return None
    return replace(predicted, bottleneck=names.get(predicted.bottleneck, predicted.bottleneck))
