"""Messages and the state of ChemBus as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from kloros_infra.adapters.bus_client import SeenMessage
from kloros_infra.cli.table import table
from kloros_infra.ir.bus_status import BusStatus, FamilyStatus, LastValueStatus, PeerStatus
from kloros_infra.planner.figures import amount_text, seconds_text, size_text

FAMILY_HEADER = ("TOPICS", "IN", "BYTES IN", "OUT", "BYTES OUT", "DROPPED")
PEER_HEADER = ("PEER", "SOCKET", "SIDE", "SINCE", "MESSAGES", "BYTES", "SUBSCRIPTIONS", "REFUSED", "QUEUED", "DROPPED")
NOTHING = "-"
LEAST_SHOWN_CHARACTERS = 20


def message_line(seen: SeenMessage, *, width: int) -> str:
    """Write when, what topic, how large, and as much of the payload as fits."""
    at = datetime.fromtimestamp(seen.at_s).strftime("%H:%M:%S.%f")[:-3]
    head = f"{at}  {_plain(seen.topic)}  {size_text(seen.size_bytes)}  "
    room = max(LEAST_SHOWN_CHARACTERS, width - len(head))
    text = _plain(b" | ".join(payload[: 4 * room] for payload in seen.payloads))
    return head + (text if len(text) <= room else f"{text[: room - 1]}…")


def message_json(seen: SeenMessage) -> str:
    """Write a message as one line of JSON; a payload that is no JSON as text."""
    found = [_value(payload) for payload in seen.payloads]
    facts = {"time": seen.at_s, "topic": _plain(seen.topic), "bytes": seen.size_bytes}
    return json.dumps({**facts, "payload": found[0] if len(found) == 1 else found})


def _value(payload: bytes) -> object:
    text = payload.decode("utf-8", "backslashreplace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(data: bytes) -> str:
    """Write bytes so that they cannot steer a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def status_lines(status: BusStatus) -> Iterator[str]:
    """Write what the proxy is, what passed through it, and who is connected."""
    yield f"ChemBus {status.xsub} -> {status.xpub}, process {status.pid}, up {seconds_text(status.uptime_s)}."
    yield (
        f"It takes {size_text(status.memory_bytes)} of memory and holds {size_text(status.held_bytes)} of messages and "
        f"{status.subscriptions} of at most {status.subscriptions_limit} subscriptions."
    )
    if status.connections_refused or status.peers_cut:
        refused = amount_text(status.connections_refused, "connection")
        yield f"{refused} refused; {amount_text(status.peers_cut, 'peer')} cut off for not speaking ZMTP."
    yield f"Last values for late subscribers: {', '.join(map(_last_value, status.last_values))}."
    if status.families:
        yield ""
        yield from table([FAMILY_HEADER, *map(_family_row, status.families)])
    if status.peers:
        yield ""
        yield from table([PEER_HEADER, *map(_peer_row, status.peers)])


def _last_value(one: LastValueStatus) -> str:
    return f"{one.topic} (none yet)" if one.age_s is None else f"{one.topic} ({seconds_text(one.age_s)} old)"


def _family_row(one: FamilyStatus) -> tuple[str, ...]:
    return (
        one.family or NOTHING,
        str(one.messages_in),
        size_text(one.bytes_in),
        str(one.messages_out),
        size_text(one.bytes_out),
        str(one.dropped),
    )


def _peer_row(one: PeerStatus) -> tuple[str, ...]:
    is_subscriber = one.side == "subscriber"
    return (
        one.address,
        one.kind,
        one.side,
        seconds_text(one.connected_s),
        str(one.messages),
        size_text(one.bytes),
        str(one.subscriptions) if is_subscriber else NOTHING,
        str(one.subscriptions_refused) if is_subscriber else NOTHING,
        str(one.queued_messages),
        str(one.dropped),
    )
