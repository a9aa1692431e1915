"""Ask the external gguf-tensor-overrider (github.com/k-koehler/gguf-tensor-overrider) where tensors shall go.

It takes a URL, asks `nvidia-smi` on PATH for cards, and prints one line. It is shown the cards of a profile and no
others, numbered as llama.cpp numbers them there, and files by a server on loopback. The machine's memory is not looked
at (`--no-check`), so that the answer is the same on every machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kloros_infra.adapters.range_server import serving
from kloros_infra.errors import UnreachableError
from kloros_infra.ir.catalog import KvType
from kloros_infra.ir.overrider_record import OverriderQuestion
from kloros_infra.placement.overrider_output import parse_output
from kloros_infra.placement.overrider_problems import tool_failed

# Measured: 0.4 s for a 7B, 0.6 s for a 235B.
TIMEOUT_S = 60.0
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
    """Runs one program as often as it is asked; `words` are the program and what always stands behind it."""

    def __init__(self, words: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._words = tuple(words)
        self._timeout_s = timeout_s

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
        with self._running(arguments, folder, environment) as process:
            try:
                output, log = process.communicate(timeout=self._timeout_s)
            except subprocess.TimeoutExpired as error:
                raise self._failed(f"has not answered for {self._timeout_s:g} s", []) from error
        if process.returncode:
            raise self._failed(f"ended with {process.returncode}", _last_lines(log))
        return output.decode(errors="replace")

    @contextmanager
    def _running(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        try:
            process = subprocess.Popen(
                [*self._words, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                # A proxy would be asked for 127.0.0.1 otherwise.
                env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **environment},
                start_new_session=True,
            )
        except OSError as error:
            raise self._failed(f"cannot be run: {error.strerror}", []) from error
        with process:
            try:
                yield process
            finally:
                _end(process)

    def _failed(self, reason: str, log: Sequence[str]) -> UnreachableError:
        return UnreachableError([tool_failed(" ".join(self._words), reason, log)])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that is still there, with those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


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
