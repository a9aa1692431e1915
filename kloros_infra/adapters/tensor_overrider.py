"""Ask the external gguf-tensor-overrider (github.com/k-koehler/gguf-tensor-overrider) where tensors shall go.

It takes a URL, asks `nvidia-smi` on PATH for cards, and prints one line. It is shown the cards of a profile and no
others, numbered as llama.cpp numbers them there, and files by a server on loopback. The machine's memory is not looked
at (`--no-check`), so that the answer is the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kloros_infra.adapters.bounded_program import Bounds, TooMuchOutputError, run_bounded
from kloros_infra.adapters.range_server import serving
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.overrider_record import OverriderQuestion
from kloros_infra.placement.overrider_output import parse_output
from kloros_infra.placement.overrider_problems import tool_failed

# Measured: 0.4 s for a 7B, 0.6 s for a 235B.
TIMEOUT_S = 60.0
# Measured: 41 kB for a 235B.
MOST_BYTES = 4 * 2**20
LOG_LINES = 8

_CARDS_FILE = "cards.csv"
# The one call that the tool makes (src/nvidia.ts).
_CARDS_QUERY = "--query-gpu=index,name,memory.total --format=csv,noheader"
_NVIDIA_SMI = f"""#!/bin/sh
if [ "$*" = "{_CARDS_QUERY}" ]; then
    exec cat "${{0%/*}}/{_CARDS_FILE}"
fi
echo "only $0 {_CARDS_QUERY} is answered here" >&2
exit 1
"""
# The tool counts 4, 8 or 16 bits for each value of keys and values alike.
_BITS = {KvType.Q4_0: 4, KvType.Q4_1: 4, KvType.IQ4_NL: 4, KvType.Q5_0: 8, KvType.Q5_1: 8, KvType.Q8_0: 8}
_MOST_BITS = 16


class TensorOverrider:
    """Runs one program as often as it is asked; `words` are the program and what always stands behind it.

    One that took too long is not run again: a hundred questions would take as many minutes.
    """

    def __init__(self, words: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._words = tuple(words)
        self._timeout_s = timeout_s
        self.is_given_up = False

    def version(self) -> str:
        """Say what the tool calls its version; raise UnreachableError (KI427) where it does not run."""
        with TemporaryDirectory(prefix="kloros-overrider-") as folder:
            return self._line(self._ran(("--version",), Path(folder), {}))[:100]

    def answer(self, question: OverriderQuestion, files: Sequence[Path]) -> str:
        """Ask for a GGUF, or for the parts of a split one in order; raise UnreachableError (KI427) without an answer.

        The answer is one line that `parse_output` reads.
        """
        with TemporaryDirectory(prefix="kloros-overrider-") as folder, serving(files) as server:
            _show_cards(question, Path(folder))
            path = os.pathsep.join(filter(None, (folder, os.environ.get("PATH"))))
            output = self._ran(_arguments(question, server.url(files[0])), Path(folder), {"PATH": path})
        line = self._line(output)
        try:
            parse_output(line)
        except ValueError as error:
            raise self._failed(f"printed what is not understood: {error}", [line[:200]]) from error
        return line

    def _line(self, output: str) -> str:
        lines = output.strip().splitlines()
        if len(lines) != 1:
            raise self._failed(f"printed {len(lines)} lines instead of one", [line[:200] for line in lines[:LOG_LINES]])
        return lines[0]

    def _ran(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
        if self.is_given_up:
            raise self._failed("did not answer before, and is not asked again", [])
        bounds = Bounds(self._timeout_s, MOST_BYTES)
        # A proxy would be asked for 127.0.0.1 otherwise.
        variables = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **environment}
        try:
            done = run_bounded([*self._words, *arguments], folder=folder, environment=variables, bounds=bounds)
        except TimeoutError as error:
            self.is_given_up = True
            raise self._failed(f"has not answered for {self._timeout_s:g} s", []) from error
        except TooMuchOutputError as error:
            raise self._failed(f"printed more than {MOST_BYTES // 2**20} MiB", []) from error
        except OSError as error:
            raise self._failed(f"cannot be run: {error.strerror}", []) from error
        if done.status:
            raise self._failed(f"ended with {done.status}", _last_lines(done.log))
        return done.output.decode(errors="replace")

    def _failed(self, reason: str, log: Sequence[str]) -> UnreachableError:
        return UnreachableError([tool_failed(" ".join(self._words), reason, log)])


def _show_cards(question: OverriderQuestion, folder: Path) -> None:
    """Put an `nvidia-smi` there that knows the cards of one profile."""
    lines = (f"{index}, {card.name}, {card.memory_mib} MiB\n" for index, card in enumerate(question.cards))
    folder.joinpath(_CARDS_FILE).write_text("".join(lines))
    program = folder / "nvidia-smi"
    program.write_text(_NVIDIA_SMI)
    program.chmod(0o755)


def _arguments(question: OverriderQuestion, url: str) -> tuple[str, ...]:
    bits = max(_BITS.get(type_, _MOST_BITS) for type_ in (question.cache_type_k, question.cache_type_v))
    return (
        "--gguf-url",
        url,
        "--context-length",
        str(question.context_tokens),
        "--context-quantization-size",
        str(bits),
        "--granular-gpu-percentage",
        ",".join(f"{card.ceiling:g}" for card in question.cards),
        "--no-check",
    )


def _last_lines(log: bytes) -> list[str]:
    """Give what says what went wrong: a stack trace of Node.js names the error before the places."""
    lines = [line for line in log.decode(errors="replace").splitlines() if line.strip()]
    plain = [line for line in lines if not line.lstrip().startswith("at ")]
    return [line[:200] for line in plain[-LOG_LINES:]]
