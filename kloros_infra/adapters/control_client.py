"""Asks the router over its control socket: HTTP over a Unix socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, ObstacleError, UnreachableError
from kloros_infra.ir.control import Followed, Runtime, Runtimes
from kloros_infra.ir.stop_cause import StopCause

Body = TypeVar("Body", bound=BaseModel)


class NoRouterError(UnreachableError):
    """Nobody listens at the socket: there is no router, as far as that can be known."""


class ControlClient:
    """The router that listens at a socket; raises UnreachableError where none answers, ObstacleError for a refusal."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def health(self) -> Runtimes:
        """Ask how the instances are."""
        return self._asked("GET", "/runtimes/health", None, Runtimes)

    def stopped(self) -> Mapping[str, StopCause] | None:
        """Ask why instances do not run, by their units; None where nobody answers, or this user may not ask."""
        try:
            found = self.health()
        except KlorosError:
            return None
        return {runtime.unit: runtime.stopped_for for runtime in found.runtimes if runtime.stopped_for is not None}

    def start(self, name: str) -> Runtime:
        """Have an instance started, by its name or its model's; it may still load when this returns."""
        return self._asked("POST", "/runtimes/start", {"profile": name}, Runtime)

    def stop(self, name: str) -> Runtime:
        """Have an instance stopped; it may still finish requests when this returns."""
        return self._asked("POST", "/runtimes/stop", {"profile": name}, Runtime)

    def follow(self) -> Followed:
        """Have it look at its table, the active profile and the cards now."""
        return self._asked("POST", "/follow", {}, Followed)

    def _asked(self, method: str, path: str, body: Mapping[str, Any] | None, shape: type[Body]) -> Body:
        connection = _UnixConnection(self._path, self._timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NoRouterError((not_running(self._path, str(error)),)) from error
        except (OSError, HTTPException) as error:
            raise UnreachableError((not_running(self._path, str(error) or type(error).__name__),)) from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ObstacleError((_refusal(text, answer.status),))
        try:
            return shape.model_validate_json(text)
        except ValidationError as error:
            reason = f"it answered what is no {shape.__name__}"
            raise UnreachableError((not_running(self._path, reason),)) from error


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect; unix(7) allows 107 bytes for the path, so the folder is named by its number."""
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def _refusal(text: bytes, status: int) -> Diagnostic:
    """Say what the router said; its words hold the hint as well."""
    try:
        error = json.loads(text)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, TypeError, KeyError):
        code, message = "KI848", f"It answered {status}."
    return Diagnostic(code, "The router refused", message, "")


def not_running(path: Path, reason: str) -> Diagnostic:
    """There is no router to ask."""
    return Diagnostic(
        code="KI848",
        summary="Router does not answer",
        detail=f"Nobody answers at {path}: {reason}.",
        hint="See with `kloros-infra status` whether kloros-router runs; --root names another installation.",
        address=str(path),
    )
