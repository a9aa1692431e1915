"""Somebody who asks the desk and does nothing with what he hears."""

from __future__ import annotations

from kloros_infra.router.effects import Refuse, Send


class Waiting:
    """Implements `daemon.desk.Taker`; keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[Send | Refuse] = []

    def on_send(self, send: Send) -> None:
        self.heard.append(send)

    def on_continue(self, send: Send) -> None:
        self.heard.append(send)

    def on_refused(self, refuse: Refuse) -> None:
        self.heard.append(refuse)
