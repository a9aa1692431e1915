"""The journal of answered requests as text: one line each, so that a router that restarts answers none twice.

A line is a checksum and then, between tabs, id, digest of the question, time and answer. Answers are JSON without
control characters. Times are those of the epoch, so that another process can read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from kloros_infra.router.dedupe import Kept

MOST_ANSWER_BYTES = 64 * 1024
"""Of an answer that is longer only the fact is written that it was given."""


def answer_line(kept: Kept, *, epoch_offset_s: float) -> str:
    """Write one line; `epoch_offset_s` is what the epoch is ahead of the clock of `kept`."""
    request_id, question, answer, answered_at = kept
    text = answer.decode() if answer is not None and len(answer) <= MOST_ANSWER_BYTES else ""
    line = f"{request_id}\t{question.hex()}\t{answered_at + epoch_offset_s:.3f}\t{text}"
    return f"{crc32(line.encode()):08x}\t{line}\n"


def read_answers(text: str, *, epoch_offset_s: float) -> tuple[Kept, ...]:
    """Read a journal; a line that is damaged is passed over, as the last one may be torn."""
    found: dict[str, Kept] = {}
    for line in text.split("\n"):
        kept = _read(line, epoch_offset_s)
        if kept is not None:
            found.pop(kept.request_id, None)
            found[kept.request_id] = kept
    return tuple(found.values())


def lines_of(kept: Iterable[Kept], *, epoch_offset_s: float) -> str:
    """Write a journal anew."""
    return "".join(answer_line(one, epoch_offset_s=epoch_offset_s) for one in kept)


def _read(line: str, epoch_offset_s: float) -> Kept | None:
    checksum, _, rest = line.partition("\t")
    fields = rest.split("\t")
    if checksum != f"{crc32(rest.encode()):08x}" or len(fields) != 4:
        return None
    request_id, question, at, answer = fields
    return Kept(request_id, bytes.fromhex(question), answer.encode() or None, float(at) - epoch_offset_s)
