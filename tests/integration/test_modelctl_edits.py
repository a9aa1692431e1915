"""promote, rollback, pull and gc as a user runs them: on real files, a real hub client and a hub on loopback."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kloros_infra.adapters.models_file import FileChange
from kloros_infra.cli.editing import difference
from tests.fakes.gguf_files import split_gguf, write_gguf, write_projector
from tests.fakes.hub import A_LATER_COMMIT, Hub, a_hub, a_repository
from tests.integration.conftest import LAPTOP, SMOLLM2
from tests.warm_commands import run_command

REPOSITORY = "someone/Tiny-Coder-GGUF"
MODELS = """\
# Everything about this machine stands here.
version: 1

hosts:
  here: {role: local}

profiles:
  cpu_only: {gpus: []}

models:
  # The first one.
  - id: tiny-coder-q4_0
    name: code                          # units are called so
    display_name: Tiny Coder
    purpose_tags: [code_generation]
    context_tokens: 2048
    cost_tier: low
    current_version: "2025-11-17-01"    # promoted by hand
    versions:
      - version_id: "2025-11-17-01"
        gguf_url: hf://someone/Tiny-Coder-GGUF/tiny-coder-Q4_0.gguf
    profiles:
      cpu_only: {port: 8601}

purposes:
  fast: {candidates: [tiny-coder-q4_0], default: true}
"""


@dataclass(frozen=True)
class Site:
    """A project, a root to store weights below, and the hub that both know."""

    folder: Path
    hub: Hub

    @property
    def file(self) -> Path:
        return self.folder / "models.yaml"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def run(self, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        program = "kloros-infra" if command in ("lock", "plan") else "modelctl"
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.folder / "hf"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        needs_root = command in ("pull", "gc", "plan") and "--root" not in words
        places = ("--file", self.file, *(("--root", self.root) if needs_root else ()))
        return run_command(program, command, *words, *places, environment=environment)

    def changes(self) -> list[str]:
        """List the lines in which models.yaml differs from what it was."""
        found = difference(FileChange(self.file, MODELS, self.file.read_text()))
        return [line for line in found if line[0] in "+-"]

    @property
    def store(self) -> Path:
        return self.root / "var" / "lib" / "llama-models"

    def stored(self) -> list[str]:
        return sorted(str(path.relative_to(self.store).parent) for path in self.store.rglob("model*.gguf"))

    def add_versions(self, *names: str) -> None:
        """Add versions of the weights that the first one has."""
        last = "gguf_url: hf://someone/Tiny-Coder-GGUF/tiny-coder-Q4_0.gguf\n"
        more = "".join(f'      - version_id: "{name}"\n        {last}' for name in names)
        self.file.write_text(self.file.read_text().replace(last, last + more, 1))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Make a repository's files: quantizations, parts, a projector, and what is no weights."""
    folder = tmp_path_factory.mktemp("weights")
    big = write_gguf(folder / "big.gguf", lambda writer: writer.add_quantized_by("q6"))
    parts = split_gguf(big, folder / "tiny-coder-Q8_0", 2)
    return {
        "README.md": b"# Tiny Coder",
        "tiny-coder-Q4_0.gguf": write_gguf(folder / "q4.gguf").read_bytes(),
        "tiny-coder-Q6_K.gguf": big.read_bytes(),
        **{f"Q8_0/{part.name}": part.read_bytes() for part in parts},
        "mmproj-tiny-coder-F16.gguf": write_projector(folder / "mmproj.gguf").read_bytes(),
    }


@pytest.fixture
def site(tmp_path: Path, weights: dict[str, bytes]) -> Iterator[Site]:
    (tmp_path / "models.yaml").write_text(MODELS)
    text_only = {name: content for name, content in weights.items() if "mmproj" not in name}
    with a_hub({REPOSITORY: text_only, "someone/Eyes-GGUF": weights, "someone/Empty": {"a.txt": b""}}) as hub:
        yield Site(tmp_path, hub)


def test_promote_and_rollback_change_one_line_each(site: Site) -> None:
    site.add_versions("2025-12-01-01")
    before = site.file.read_text()
    promoted = site.run("promote", "code", "--to", "2025-12-01-01")
    assert promoted.returncode == 0, promoted.stderr
    assert promoted.stdout.splitlines()[:3] == [
        f"{site.file}:18",
        '-    current_version: "2025-11-17-01"    # promoted by hand',
        '+    current_version: "2025-12-01-01"    # promoted by hand',
    ]
    assert "kloros-infra lock" in promoted.stdout
    assert "kloros-infra plan" in promoted.stdout
    again = site.run("promote", "code", "--to", "2025-12-01-01")
    assert (again.returncode, again.stdout) == (
        0,
        "tiny-coder-q4_0 is at 2025-12-01-01 already. Nothing was changed.\n",
    )
    back = site.run("rollback", "tiny-coder-q4_0")
    assert back.returncode == 0, back.stderr
    assert site.file.read_text() == before


def test_a_promotion_that_names_nothing_is_refused_with_a_suggestion(site: Site) -> None:
    before = site.file.read_text()
    for words, code, hint in (
        (("promote", "coed", "--to", "x"), "KI525", "'code'"),
        (("promote", "code", "--to", "2025-11-17"), "KI526", "'2025-11-17-01'"),
        (("rollback", "code", "--to", "2025-11-17-02"), "KI526", "'2025-11-17-01'"),
        (("rollback", "code"), "KI527", "Pull another version"),
    ):
        refused = site.run(*words)
        assert refused.returncode == 1
        assert code in refused.stderr
        assert hint in refused.stderr
    assert site.file.read_text() == before


def test_an_included_file_is_edited_where_the_model_stands(site: Site) -> None:
    head, _, models = MODELS.partition("models:\n")
    models, _, purposes = models.partition("purposes:\n")
    site.file.write_text(f"{head}include: models/*.yaml\n\npurposes:\n{purposes}")
    part = site.folder / "models" / "code.yaml"
    part.parent.mkdir()
    part.write_text(f"models:\n{models}".replace("\n", "\r\n"))
    site.run("pull", f"{REPOSITORY}:Q6_K", "--promote")
    text = part.read_bytes().decode()
    assert text.count("version_id") == 2
    assert text.count("\r\n") == text.count("\n")
    back = site.run("rollback", "code")
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith(f"{part}:")
    assert 'current_version: "2025-11-17-01"    # promoted by hand' in part.read_text()


def test_the_laptop_example_is_edited_in_place(site: Site) -> None:
    shutil.copy(LAPTOP / "models.yaml", site.file)
    refused = site.run("rollback", SMOLLM2)
    assert "KI527" in refused.stderr
    assert site.file.read_bytes() == (LAPTOP / "models.yaml").read_bytes()


def test_pull_of_a_known_model_locks_and_stores_it(site: Site, weights: dict[str, bytes]) -> None:
    pulled = site.run("pull", "code")
    assert pulled.returncode == 0, pulled.stderr
    assert site.changes() == []
    assert site.stored() == ["tiny-coder-q4_0/2025-11-17-01"]
    stored = site.root / "var/lib/llama-models/tiny-coder-q4_0/2025-11-17-01/model.gguf"
    assert stored.read_bytes() == weights["tiny-coder-Q4_0.gguf"]
    assert hashlib.sha256(stored.read_bytes()).hexdigest() in (site.folder / "models.lock.yaml").read_text()
    again = site.run("pull", "tiny-coder-q4_0")
    assert again.returncode == 0, again.stderr
    assert "already" in again.stdout


def test_pull_without_rights_to_the_root_fetches_all_the_same(site: Site, weights: dict[str, bytes]) -> None:
    pulled = site.run("pull", "code", "--root", site.file / "no folder")
    assert pulled.returncode == 0, pulled.stderr
    cached = Path(pulled.stdout.splitlines()[0].partition(": ")[2])
    assert cached.is_relative_to(site.folder / "hf")
    assert cached.read_bytes() == weights["tiny-coder-Q4_0.gguf"]
    assert "nothing was stored there" in pulled.stdout


def test_pull_of_what_nobody_can_reach_is_refused(site: Site) -> None:
    source = f"hf://{REPOSITORY}/tiny-coder-Q4_0.gguf"
    unreachable = "package://no_such_module/a.gguf\n        architecture: qwen2.5-7b\n        quantization: Q4_0"
    site.file.write_text(MODELS.replace(source, unreachable))
    derived = site.run("pull", "code")
    assert derived.returncode == 1
    assert "KI532" in derived.stderr
    site.file.write_text(re.sub(r"    current_version(.|\n)*?    profiles:\n.*\n", "", MODELS))
    remote = site.run("pull", "code")
    assert remote.returncode == 1
    assert "KI531" in remote.stderr


@pytest.mark.parametrize(
    "address",
    [f"hf.co/{REPOSITORY}:q6_k", f"hf://{REPOSITORY}/tiny-coder-Q6_K.gguf"],
)
def test_pull_of_an_address_adds_a_version_to_the_model_from_there(site: Site, address: str) -> None:
    pulled = site.run("pull", address)
    assert pulled.returncode == 0, pulled.stderr
    changes = site.changes()
    assert len(changes) == 2
    added = re.fullmatch(r'\+      - version_id: "(\d{4}-\d\d-\d\d-01)"', changes[0])
    assert added
    assert changes[1] == f"+        gguf_url: hf://{REPOSITORY}/tiny-coder-Q6_K.gguf"
    assert f"tiny-coder-q4_0@{added[1]}" in (site.folder / "models.lock.yaml").read_text()
    assert site.stored() == [f"tiny-coder-q4_0/{added[1]}"]


def test_two_pulls_in_a_day_count_on_and_promote_if_asked(site: Site) -> None:
    assert site.run("pull", REPOSITORY, "--quant", "Q6_K").returncode == 0
    second = site.run("pull", REPOSITORY, "--quant", "q8_0", "--promote")
    assert second.returncode == 0, second.stderr
    changes = site.changes()
    assert changes[0].startswith('-    current_version: "2025-11-17-01"    #')
    assert re.fullmatch(r'\+    current_version: "\d{4}-\d\d-\d\d-02"    # promoted by hand', changes[1])
    assert changes[-1] == f"+        gguf_url: hf://{REPOSITORY}/Q8_0/tiny-coder-Q8_0-00001-of-00002.gguf"
    third = site.run("pull", REPOSITORY, "--quant", "Q6_K")
    assert third.returncode == 0, third.stderr
    assert "has these weights already, as version" in third.stdout
    assert site.changes() == changes
    assert len([path for path in site.stored() if path.endswith("-02")]) == 2


def test_new_bytes_under_an_old_name_are_a_new_version(site: Site, weights: dict[str, bytes]) -> None:
    assert site.run("pull", "code").returncode == 0
    site.hub.repositories[REPOSITORY].move(A_LATER_COMMIT, {"tiny-coder-Q4_0.gguf": weights["tiny-coder-Q6_K.gguf"]})
    pulled = site.run("pull", f"{REPOSITORY}:Q4_0")
    assert pulled.returncode == 0, pulled.stderr
    assert len(site.changes()) == 2
    lock = (site.folder / "models.lock.yaml").read_text()
    assert lock.count(A_LATER_COMMIT) == 1
    assert "tiny-coder-q4_0@2025-11-17-01" in lock


def test_pull_of_a_new_repository_writes_a_whole_model(site: Site) -> None:
    pulled = site.run("pull", "someone/Eyes-GGUF:Q4_0", "--name", "eyes")
    assert pulled.returncode == 0, pulled.stderr
    changes = [re.sub(r"\d{4}-\d\d-\d\d", "DATE", line) for line in site.changes()]
    assert changes == [
        "+  - id: tiny-coder-q4_0-2",
        "+    name: eyes",
        "+    display_name: Tiny Coder Q4_0",
        "+    kind: vision",
        "+    purpose_tags: [code_generation, vision]",
        "+    context_tokens: 4096",
        "+    cost_tier: low",
        '+    current_version: "DATE-01"',
        "+    versions:",
        '+      - version_id: "DATE-01"',
        "+        gguf_url: hf://someone/Eyes-GGUF/tiny-coder-Q4_0.gguf",
        "+        mmproj_url: hf://someone/Eyes-GGUF/mmproj-tiny-coder-F16.gguf",
        "+    profiles:",
        "+      cpu_only: {port: 8611}",
        "+",
    ]
    assert "eyes" in pulled.stdout
    assert sorted(path.name for path in site.store.rglob("*.gguf")) == ["mmproj.gguf", "model.gguf"]
    checked = site.run("lock", "--check")
    assert "KI301" in checked.stderr  # of the other model, which nobody pulled
    assert "eyes" not in checked.stderr
    planned = site.run("pull", "eyes")
    assert planned.returncode == 0, planned.stderr


def test_what_cannot_be_pulled_is_explained_and_nothing_is_written(site: Site) -> None:
    site.hub.repositories["someone/Twice"] = a_repository({"a-Q4_0.gguf": b"x", "b-Q4_0.gguf": b"x"})
    site.hub.repositories["someone/Junk"] = a_repository({"a-Q4_0.gguf": b"no GGUF at all"})
    gated = a_repository({"a-Q4_0.gguf": b"x"})
    gated.is_gated = True
    site.hub.repositories["someone/Gated"] = gated
    for words, code, hint in (
        (("coed",), "KI525", "owner/repository:Q4_K_M"),
        (("a/b/c.bin",), "KI528", "owner/repository:Q4_K_M"),
        ((f"{REPOSITORY}:IQ1_S",), "KI529", "Q4_0, Q6_K, Q8_0"),
        ((f"hf://{REPOSITORY}/tiny-coder-Q6_L.gguf",), "KI529", "tiny-coder-Q6_K.gguf"),
        (("someone/Empty",), "KI529", "no GGUF files"),
        (("someone/Twice:Q4_0",), "KI530", "hf://someone/Twice/a-Q4_0.gguf"),
        (("someone/Nowhere",), "KI312", "spelling"),
        (("someone/Gated",), "KI324", "licence"),
        (("someone/Junk",), "KI313", ""),
    ):
        refused = site.run("pull", *words)
        assert refused.returncode == 1, refused.stdout
        assert code in refused.stderr
        assert hint in refused.stderr
    assert site.run("pull", "code", "--promote").returncode == 2
    assert site.changes() == []
    assert not site.root.exists()
    assert not (site.folder / "models.lock.yaml").exists()


def test_a_hub_in_trouble_is_named(site: Site) -> None:
    refused = subprocess.run(
        [Path(sys.executable).with_name("modelctl"), "pull", f"{REPOSITORY}:Q6_K", "--file", site.file],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "KI311" in refused.stderr
    assert site.changes() == []


def test_a_model_that_fits_nowhere_is_refused_and_a_profile_without_room_is_left_out(site: Site) -> None:
    text = MODELS.replace(
        "profiles:\n",
        "gpus:\n"
        '  card: {host: here, pci: "0000:01:00.0", vram: 513MiB, bandwidth: 100GB/s, compute_capability: "8.6"}\n\n'
        "profiles:\n  max: {gpus: [card]}\n",
        1,
    )
    site.file.write_text(text)
    pulled = site.run("pull", "someone/Eyes-GGUF:Q4_0")
    assert pulled.returncode == 0, pulled.stderr
    assert "+      max: null" in pulled.stdout
    assert "profiles.max is null" in pulled.stdout
    site.file.write_text(
        text.replace("  cpu_only: {gpus: []}\n", "").replace("      cpu_only: {port: 8601}", "      max: {port: 8601}")
    )
    refused = site.run("pull", "someone/Eyes-GGUF:Q4_0", "--name", "other")
    assert refused.returncode == 1
    assert "KI401" in refused.stderr


def test_gc_keeps_what_is_current_new_or_in_use(site: Site) -> None:
    names = ["2025-12-01-01", "2025-12-02-01", "2025-12-03-01"]
    assert site.run("pull", "code").returncode == 0
    site.add_versions(*names)
    site.file.write_text(
        site.file.read_text().replace('current_version: "2025-11-17-01"', f'current_version: "{names[2]}"')
    )
    assert site.run("lock").returncode == 0
    first = site.store / "tiny-coder-q4_0" / "2025-11-17-01"
    for copy in (*(first.with_name(name) for name in names), site.store / "gone" / "1"):
        shutil.copytree(first, copy)
    env = site.root / "etc" / "kloros-infra" / "current" / "env"
    env.mkdir(parents=True)
    running = site.store / "tiny-coder-q4_0" / "2025-12-01-01" / "model.gguf"
    (env / "code-cpu_only.1234.env").write_text(f"LLAMA_ARG_MODEL='{running}'\n")

    shown = site.run("gc", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["MODEL", "VERSION"],
        ["gone", "1"],
        ["tiny-coder-q4_0", "2025-11-17-01"],
    ]
    assert site.run("gc").returncode == 1  # nobody answers yes
    assert len(site.stored()) == 5
    text = site.file.read_text()
    removed = site.run("gc", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert site.stored() == [f"tiny-coder-q4_0/{name}" for name in names]
    assert site.file.read_text() == text
    assert "nothing to remove" in site.run("gc", "--yes").stdout

    # Going back to an older generation must find its weights.
    older = env.parents[1] / "generations" / "3" / "env"
    older.mkdir(parents=True)
    (older / "code-cpu_only.5678.env").write_text(f"LLAMA_ARG_MODEL='{running.parents[1] / names[1] / 'model.gguf'}'\n")
    held = site.run("gc", "--keep", "1", "--yes")
    assert "nothing to remove" in held.stdout
    assert f"tiny-coder-q4_0: version {names[1]} stays for generation 3" in held.stdout
    assert len(site.stored()) == 3
    shutil.rmtree(older.parent)

    forgotten = site.run("gc", "--keep", "1", "--forget", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert site.stored() == [f"tiny-coder-q4_0/{name}" for name in (names[0], names[2])]
    assert re.findall(r'version_id: "(.*)"', site.file.read_text()) == [names[0], names[2]]
    lock = (site.folder / "models.lock.yaml").read_text()
    assert "2025-12-02-01" not in lock
    assert "2025-12-03-01" in lock
    assert site.run("lock", "--check").returncode == 0


def test_gc_waits_for_no_apply(site: Site) -> None:
    assert site.run("pull", "code").returncode == 0
    lock = site.root / "var" / "lib" / "kloros-infra" / "lock"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = site.run("gc", "--yes")
    assert refused.returncode == 5
    assert "KI512" in refused.stderr


def test_gc_finds_what_a_killed_run_left_and_passes_over_links_to_nowhere(site: Site) -> None:
    assert site.run("pull", "code").returncode == 0
    units = site.root / "etc" / "kloros-infra" / "current" / "units"
    units.mkdir(parents=True)
    (units / "gone.service").symlink_to("/nowhere/gone.service")
    left = site.store / "other" / "2025-01-01-01"
    left.mkdir(parents=True)
    (left / "model.gguf").write_bytes(bytes(2**20))
    (left / ".model.gguf.partial").write_bytes(bytes(2**20))

    shown = site.run("gc", "--dry-run")
    done = site.run("gc", "--yes")

    assert (shown.returncode, done.returncode) == (0, 0), shown.stderr + done.stderr
    assert re.search(r"other +2025-01-01-01 +2.* left over", shown.stdout)
    assert site.stored() == ["tiny-coder-q4_0/2025-11-17-01"]
    assert not left.parent.exists()
    assert "nothing to remove" in site.run("gc", "--yes").stdout
