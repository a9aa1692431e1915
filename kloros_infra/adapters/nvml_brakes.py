"""Whether heat slows a card down, from NVML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import pynvml

from kloros_infra.doctor.facts import Brake
from kloros_infra.ir.card_facts import DeclaredCard

# Not for power or because nobody uses it: that is how cards are run.
_HEAT = (
    (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, "its hardware slows it down, it is too hot"),
    (pynvml.nvmlClocksThrottleReasonSwThermalSlowdown, "the driver slows it down, it is too hot"),
)


def read_brakes(cards: Iterable[DeclaredCard]) -> tuple[Brake, ...]:
    """List the cards that are slowed down by heat now; one that does not say so is none.

    Raises OSError where NVML cannot be asked at all.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise OSError(0, f"NVML does not answer: {error}") from error
    try:
        return tuple(brake for card in cards for brake in _brakes(card))
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _brakes(card: DeclaredCard) -> Iterator[Brake]:
    try:
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(_handle(card))
    except pynvml.NVMLError:
        return
    for bit, words in _HEAT:
        if reasons & bit:
            yield Brake(card.name, words)


def _handle(card: DeclaredCard) -> object:
    if card.uuid is not None:
        return pynvml.nvmlDeviceGetHandleByUUID(card.uuid)
    return pynvml.nvmlDeviceGetHandleByPciBusId(card.pci or "")
