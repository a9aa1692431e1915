"""Words in, words out: the embedded supervisor passes on what a real systemd passes on (tests/system has its half)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kloros_infra.adapters.processes import SupervisorClient
from kloros_infra.compiler.systemd_syntax import env_lines
from kloros_infra.ir.layout import Layout
from tests.argument_batches import (
    RECORDER,
    SEEDS,
    UNIT,
    batch,
    recorded_variables,
    recorded_words,
    recorder_launcher,
    texts,
)

START_S = 20.0


class Installation:
    """A root with the recorder in place of llama-server, and its supervisor."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(prefix=str(root))
        self._root = root
        self._recorder = root / "recorder"
        self.client = SupervisorClient(root)
        self.write("recorder", RECORDER, 0o755)
        self.write(self.layout.program_path("llama-server"), recorder_launcher(str(self._recorder)), 0o755)
        self.write(self.layout.weights_path("recorder", "1"), "GGUF")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def start(self, unit: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """Start a unit; give the words and variables of what it runs."""
        self.client.reload()
        self.client.start(unit)
        process = Path(f"/proc/{self.client.states((unit,))[unit].main_pid}")
        deadline = time.monotonic() + START_S
        while (words := recorded_words((process / "cmdline").read_bytes(), str(self._recorder))) is None:
            assert time.monotonic() < deadline, f"{unit} did not start its program"
            time.sleep(0.01)  # the pause between two polls of a condition with a deadline
        return words, recorded_variables((process / "environ").read_bytes())


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
def test_arguments_reach_llama_server_as_they_were_written(installation: Installation, seed: int) -> None:
    made = batch(seed, installation.layout)
    installation.write(installation.layout.unit_path(UNIT), made.unit_text)
    installation.write(made.env_path, made.env_text)
    try:
        words, variables = installation.start(UNIT)
    finally:
        installation.client.shutdown()

    assert words == made.words
    assert {name: variables.get(name) for name in made.variables} == made.variables


@pytest.mark.parametrize("seed", SEEDS)
def test_variables_reach_a_service_as_they_were_written(installation: Installation, seed: int) -> None:
    intended = {f"VALUE_{index:03}": text for index, text in enumerate(texts(seed))}
    env_file = installation.layout.absolute("variables.env")
    installation.write("variables.env", "".join(f"{line}\n" for line in env_lines(intended)))
    recorder = installation.layout.absolute("recorder")
    text = f"[Service]\nType=exec\nEnvironmentFile={env_file}\nExecStart=:{recorder}\n"
    installation.write(installation.layout.unit_path("variables.service"), text)
    try:
        words, variables = installation.start("variables.service")
    finally:
        installation.client.shutdown()

    assert words == ()
    assert {name: variables.get(name) for name in intended} == intended
