"""What `kloros-infra bus` needs before it can speak: where the bus is, and what is to be published."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from kloros_infra.adapters.bus_address import bus_addresses
from kloros_infra.adapters.watched_file import WatchedFile
from kloros_infra.daemon.files import read_table
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedBus
from kloros_infra.router.wire import MAX_PAYLOAD_BYTES, write_message

DEFAULT_BUS = RoutedBus(xsub="tcp://127.0.0.1:5556", xpub="tcp://127.0.0.1:5557")


def where_is_bus(root: Path, xsub: str | None, xpub: str | None) -> RoutedBus:
    """Say where the bus is: as the options say, as KLoROS's variables do, as it is installed below a root, as usual."""
    named = {side: address for side, address in (("xsub", xsub), ("xpub", xpub)) if address is not None}
    if len(named) == 2:
        return RoutedBus(**named)
    return bus_addresses(os.environ, installed_bus(root) or DEFAULT_BUS).model_copy(update=named)


def installed_bus(root: Path) -> RoutedBus | None:
    """Say where the bus is that is installed below a root, None without one; raise ProblemsError for a bad table."""
    routing = root / Layout().routing
    if not routing.is_file():
        return None
    table = read_table(WatchedFile(routing))
    if isinstance(table, Diagnostic):
        raise ProblemsError([table])
    return table.bus


def payload_of(text: str, topic: str, ecosystem: str, *, is_raw: bool) -> bytes:
    """Read what is to be published from an argument, `@file` or `-`, and put it into an envelope unless it is raw.

    Raises ProblemsError for what is no JSON object or too large, OSError for a file that cannot be read.
    """
    data = _written(text)
    if not is_raw:
        facts = _facts(data)
        data = write_message(topic, ecosystem, facts, ts=time.time(), incident_id=f"bus-pub-{secrets.token_hex(8)}")
    if len(data) > MAX_PAYLOAD_BYTES:
        raise ProblemsError([_not_publishable(f"It has {len(data)} bytes, {MAX_PAYLOAD_BYTES} is the most.")])
    return data


def _written(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProblemsError([_not_publishable(f"It is no JSON: {error}.")]) from error
    if not isinstance(facts, dict):
        raise ProblemsError([_not_publishable("It is no JSON object.")])
    return facts


def _not_publishable(detail: str) -> Diagnostic:
    return Diagnostic(
        code="KI718",
        summary="Cannot be published",
        detail=detail,
        hint='Give the facts as a JSON object, such as \'{"text": "hello"}\'; `--raw` sends anything as it is.',
    )
