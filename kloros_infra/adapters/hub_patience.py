"""How long to wait for the hub, and when to stop asking: shared by all threads that ask it."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub.errors import HfHubHTTPError

from kloros_infra.adapters.hub_problems import busy_reason, is_busy, may_pass, nobody_there, transport_problem

_MOST_TIMEOUTS = 2


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the hub may take: until it says something, for one piece of a file, and between attempts in all."""

    answer_s: float = 10.0
    piece_s: float = 60.0
    between_s: float = 30.0
    first_wait_s: float = 1.0


class Condition:
    """How the hub is, as far as the last answers tell; `why_down` says why it need not be asked any more.

    Nobody there, a hub that wants to be left alone for longer than patience lasts, or silence twice in a row: the next
    request would only pay for the same again. After other trouble each is asked for once, without a pause.
    """

    def __init__(self, patience: Patience) -> None:
        self.why_down = ""
        self._patience = patience
        self._is_troubled = False
        self._timeouts = 0

    @property
    def between_s(self) -> float:
        """Say how long a request may pause in all."""
        return 0.0 if self._is_troubled else self._patience.between_s

    def answered(self) -> None:
        """Note that the hub gave what was asked for, or said that it has no such thing."""
        self._is_troubled = False
        self._timeouts = 0

    def failed(self, error: Exception) -> None:
        """Note that a request was given up."""
        if isinstance(error, HfHubHTTPError):
            if not may_pass(error):
                self.answered()
            elif is_busy(error):
                self.why_down = busy_reason(error)
            self._is_troubled = may_pass(error)
            return
        self._timeouts += isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
        if nobody_there(error) or self._timeouts >= _MOST_TIMEOUTS:
            self.why_down = transport_problem(error)
