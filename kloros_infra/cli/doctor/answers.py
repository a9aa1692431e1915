"""Ask many things at once, none of them for longer than agreed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic

from kloros_infra.doctor.facts import AS_ROOT, Seen, Unseen, Value
from kloros_infra.errors import KlorosError

LOOK_AT_IT = "Try it by hand: something does not answer."


class Question(Generic[Value]):
    """One thing that is being asked, in a thread that does not keep the program from ending."""

    def __init__(self, ask: Callable[[], Value], deadline_s: float) -> None:
        self._until = time.monotonic() + deadline_s
        self._deadline_s = deadline_s
        self._answer: Future[Seen[Value]] = Future()
        threading.Thread(target=self._run, args=(ask,), name="doctor", daemon=True).start()

    def answer(self) -> Seen[Value]:
        """Wait for the answer, until the deadline; raise what is wrong with the question itself."""
        try:
            return self._answer.result(max(0.0, self._until - time.monotonic()))
        except TimeoutError:
            return Unseen(f"no answer within {self._deadline_s:g} s", LOOK_AT_IT)

    def _run(self, ask: Callable[[], Value]) -> None:
        try:
            self._answer.set_result(_seen(ask))
        except BaseException as error:
            self._answer.set_exception(error)


def _seen(ask: Callable[[], Value]) -> Seen[Value]:
    """Turn what a user can meet into a fact that is not known."""
    try:
        return ask()
    except KlorosError as error:
        problem = error.problems[0]
        return Unseen(f"{problem.code} {problem.detail}".rstrip("."), problem.hint or LOOK_AT_IT)
    except PermissionError as error:
        return Unseen(f"{error.filename or 'it'} may not be read by this user", AS_ROOT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return Unseen(f"{place}{error.strerror or error}", LOOK_AT_IT)
