"""Where router and bus are: as given, else from KLoROS's variables, else the standard ones of models.yaml."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from kloros_infra.client.errors import LlmError, bad_address

DIRECT_VARIABLE = "KLOROS_LLM_DIRECT"
FAMILIES = ("KLR_CHEM", "KLR_UMN")
OFF = "off"
_IPC, _TCP, _LAST_PORT = re.compile(r"ipc://.+"), re.compile(r"tcp://.+:(\d{1,5})"), 65_535


class Addresses(NamedTuple):
    """The router's direct endpoint, None where it has none, and the two sides of ChemBus."""

    direct: str | None = "tcp://127.0.0.1:5555"
    xsub: str = "tcp://127.0.0.1:5556"
    xpub: str = "tcp://127.0.0.1:5557"

    def overridden(self, environment: Mapping[str, str] = os.environ) -> Addresses:
        """Let KLOROS_LLM_DIRECT (`off` for none), KLR_CHEM_* and KLR_UMN_* replace addresses."""
        direct = environment.get(DIRECT_VARIABLE) or self.direct
        xsub, xpub = (_side(environment, name, default) for name, default in (("XSUB", self.xsub), ("XPUB", self.xpub)))
        return Addresses(None if direct == OFF else direct, xsub, xpub)

    def checked(self) -> Addresses:
        """Give them back; raise LlmError for one that is none, for libzmq would not take it."""
        for name, address in self._asdict().items():
            if address is not None and not _is_address(address):
                raise bad_address(name, address)
        return self

    @property
    def where(self) -> str:
        """Say where the router is looked for."""
        return f"{self.direct} or on the bus at {self.xsub}" if self.direct else f"the bus at {self.xsub}"


def _is_address(text: str) -> bool:
    tcp = _TCP.fullmatch(text)
    return 0 < int(tcp[1]) <= _LAST_PORT if tcp else _IPC.fullmatch(text) is not None


def _side(environment: Mapping[str, str], side: str, default: str) -> str:
    named = {name: environment[name] for family in FAMILIES if environment.get(name := f"{family}_{side}")}
    if len(set(named.values())) > 1:
        both = " and ".join(f"{name}={value}" for name, value in sorted(named.items()))
        raise LlmError("KI706", f"Bus addresses disagree: {both} name different places.", hint="Set both to the same.")
    return next(iter(named.values()), default)
