"""The command of a model in llama-swap's configuration → words, and what of them is llama-server's.

llama-swap, internal/config/commands.go: lines that begin with # are comments, a backslash at a line's end stands for a
blank, and the rest is split as a POSIX shell does.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

PROGRAM = "llama-server"


def split_command(text: str) -> tuple[str, ...]:
    """Split a command into words; raise ValueError where a quotation is not closed."""
    lines = (line for line in text.split("\n") if not line.strip().startswith("#"))
    joined = "\n".join(f"{line.strip()[:-1]} " if line.strip().endswith("\\") else line for line in lines)
    return tuple(shlex.split(joined))


def server_words(words: Sequence[str]) -> tuple[str, ...] | None:
    """Give the words behind llama-server's name; None where another program is run."""
    if not words:
        return None
    name = words[0].rpartition("/")[2]
    if name.startswith(PROGRAM):
        return tuple(words[1:])
    # The one program of newer builds has llama-server as a command.
    return tuple(words[2:]) if name == "llama" and words[1:2] == ("serve",) else None
