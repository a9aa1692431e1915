"""Secrets that systemd hands to the service in a folder of its own (systemd.exec(5), LoadCredential=)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_BYTES = 16 * 1024


class CredentialFolder:
    """Implements `daemon.ports.Credentials`; without a folder there are none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, name: str) -> str:
        """Give a secret without the line's end; raise OSError where there is none that can be sent."""
        secret = self._data(name).removesuffix(b"\n").removesuffix(b"\r")
        # It becomes part of a header line.
        if not secret or not _is_printable(secret):
            raise OSError(errno.EINVAL, "it is empty, too long, or not one line of printable ASCII")
        return secret.decode()

    def read_lines(self, name: str) -> tuple[str, ...]:
        """Give the secrets of a file that holds one a line; raise OSError where there is none, or one is none."""
        lines = [line.strip() for line in self._data(name).splitlines()]
        secrets = [line for line in lines if line]
        if not secrets or not all(map(_is_printable, secrets)):
            raise OSError(errno.EINVAL, "it is empty, too long, or not lines of printable ASCII")
        return tuple(secret.decode() for secret in secrets)

    def _data(self, name: str) -> bytes:
        if self._folder is None:
            raise FileNotFoundError(errno.ENOENT, "the service has no credentials", name)
        if os.sep in name or name.startswith("."):
            raise ValueError(f"not a credential's name: {name!r}")
        with (self._folder / name).open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        return data if len(data) <= MOST_BYTES else b""


def _is_printable(secret: bytes) -> bool:
    return secret.isascii() and secret.decode().isprintable()
