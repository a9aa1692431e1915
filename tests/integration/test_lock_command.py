"""`kloros-infra lock` as a user runs it, against a hub on loopback."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.fakes.gguf_files import split_gguf, write_gguf, write_projector
from tests.fakes.hub import A_COMMIT, A_LATER_COMMIT, Fault, Hub, a_hub, a_repository
from tests.warm_commands import run_command

HEAD = """\
version: 1
hosts: {box: {}}
profiles: {cpu_only: {gpus: []}}
purposes: {fast: {candidates: [one], default: true}}
models:
"""
MODEL = """\
  - id: %(id)s
    display_name: %(id)s
    purpose_tags: [fast]
    context_tokens: 2048
    cost_tier: low
    current_version: "1"
    versions:
      - version_id: "1"
        gguf_url: %(url)s
    profiles: {cpu_only: {port: %(port)d}}
"""
ONE = "hf://owner/name/one.gguf"


@dataclass(frozen=True)
class House:
    """A project in a folder of its own, and the hub that its weights are on."""

    folder: Path
    hub: Hub

    def write(self, **urls: str) -> None:
        """Write models.yaml with these models."""
        models = (MODEL % {"id": id, "url": url, "port": port} for port, (id, url) in enumerate(urls.items(), 8601))
        (self.folder / "models.yaml").write_text(HEAD + "".join(models))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in the folder; the hub is the one on loopback."""
        argv = [sys.executable, "-m", "kloros_infra", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_command("kloros-infra", *words, folder=self.folder, environment=self.environment, timeout_s=60)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HOME": str(self.folder / ".hf"),
        }

    def lock(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Lock, and expect it to work."""
        done = self.run("lock", *words)
        assert done.returncode == 0, done.stderr
        return done

    def entries(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = yaml.safe_load(self.texts()["models.lock.yaml"])["weights"]
        return found

    def texts(self) -> dict[str, str]:
        """Read the lock and the files beside it."""
        files = [*self.folder.glob("models.lock.yaml"), *self.folder.glob("models.lock/*")]
        return {str(file.relative_to(self.folder)): file.read_text() for file in files}


@contextmanager
def a_house(folder: Path, files: dict[str, bytes]) -> Iterator[House]:
    project = folder / "project"
    project.mkdir()
    with a_hub({"owner/name": a_repository(files)}) as hub:
        yield House(project, hub)


@pytest.fixture
def ggufs(tmp_path: Path) -> dict[str, bytes]:
    """Write the files of the repository: a model, another one, a split one, and a projector."""
    one = write_gguf(tmp_path / "one.gguf", lambda w: w.add_chat_template("<|im_start|>"))
    two = write_gguf(tmp_path / "two.gguf", lambda w: w.add_tokenizer_pre("two"))
    parts = split_gguf(one, tmp_path / "m", 3)
    return {file.name: file.read_bytes() for file in (one, two, *parts, write_projector(tmp_path / "mmproj.gguf"))}


@pytest.fixture
def house(tmp_path: Path, ggufs: dict[str, bytes]) -> Iterator[House]:
    with a_house(tmp_path, ggufs) as one:
        one.write(one=ONE)
        yield one


def test_weights_are_pinned_without_being_fetched(house: House, ggufs: dict[str, bytes]) -> None:
    done = house.lock()

    assert done.stdout == "models.lock.yaml: 1 pinned, 0 derived, 2 files changed.\n"
    sha256 = hashlib.sha256(ggufs["one.gguf"]).hexdigest()
    entry = house.entries()["one@1"]
    assert (entry["origin"], entry["revision"], entry["sha256"]) == ("hub", A_COMMIT, sha256)
    assert entry["files"] == [{"source": ONE, "size_bytes": len(ggufs["one.gguf"]), "sha256": sha256}]
    fetched = [line for line in house.hub.asked("GET") if "/api/" not in line]
    assert all("bytes=0-" in line for line in fetched)
    assert '"chat_template_name": "chatml"' in house.texts()["models.lock/one@1.json"]


def test_a_second_run_asks_nobody_and_changes_nothing(house: House) -> None:
    house.lock()
    before = house.texts()
    house.hub.requests.clear()

    assert house.lock().stdout.endswith("0 files changed.\n")

    assert house.texts() == before
    assert house.hub.requests == []


def test_a_moved_branch_is_followed_on_upgrade_alone(house: House, ggufs: dict[str, bytes]) -> None:
    house.lock()
    before = house.texts()
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, {"one.gguf": ggufs["two.gguf"]})

    house.lock()
    house.lock("--refresh")
    assert house.texts() == before

    house.lock("--upgrade", "one")
    assert house.entries()["one@1"]["revision"] == A_LATER_COMMIT
    assert '"tokenizer_pre": "two"' in house.texts()["models.lock/one@1.json"]


def test_an_unknown_model_cannot_be_upgraded(house: House) -> None:
    refused = house.run("lock", "--upgrade", "onne")

    assert refused.returncode == 1
    assert "KI325" in refused.stderr
    assert "Did you mean 'one'?" in refused.stderr
    assert house.hub.requests == []


def test_an_upgrade_takes_names_and_fails_where_nobody_answers(house: House, ggufs: dict[str, bytes]) -> None:
    house.lock()
    file = house.folder / "models.yaml"
    file.write_text(file.read_text().replace("  - id: one\n", "  - id: one\n    name: only\n    aliases: [first]\n"))
    before = house.texts()
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, ggufs)
    house.hub.faults.append(Fault(429, {"Retry-After": "3600"}, only="HEAD"))

    refused = house.run("lock", "--upgrade", "first")

    assert (refused.returncode, "KI311" in refused.stderr) == (1, True)
    assert house.texts() == before
    house.lock("--upgrade", "only")
    assert house.entries()["one@1"]["revision"] == A_LATER_COMMIT


def test_runs_at_the_same_time_lose_nothing_of_each_other(house: House) -> None:
    house.hub.faults.append(Fault(is_stalled=True, only="/two.gguf"))
    house.write(one=ONE, two="hf://owner/name/two.gguf")
    slow = house.start("lock")
    wait_for(house.folder / "models.lock" / "one@1.json")
    house.write(one=ONE, three="hf://owner/name/two.gguf")
    house.lock()

    slow.communicate(timeout=60)

    assert {"one@1", "three@1"} <= house.entries().keys()


def test_a_model_more_only_adds_lines(house: House) -> None:
    house.lock()
    before = house.texts()
    house.write(one=ONE, another="hf://owner/name@main/two.gguf")

    house.lock()

    after = house.texts()
    assert after.keys() - before.keys() == {"models.lock/another@1.json"}
    for name, text in before.items():
        assert not [line for line in difflib.ndiff(text.splitlines(), after[name].splitlines()) if line[0] in "-?"]


def test_a_split_gguf_and_a_projector_are_pinned_part_by_part(house: House, ggufs: dict[str, bytes]) -> None:
    house.write(one="hf://owner/name/m-00001-of-00003.gguf\n        mmproj_url: hf://owner/name/mmproj.gguf")

    house.lock()

    entries = house.entries()
    files = entries["one@1"]["files"]
    assert isinstance(files, list)
    assert [file["sha256"] for file in files] == [
        hashlib.sha256(ggufs[f"m-0000{number}-of-00003.gguf"]).hexdigest() for number in (1, 2, 3)
    ]
    assert entries["one@1+mmproj"]["sha256"] == hashlib.sha256(ggufs["mmproj.gguf"]).hexdigest()
    texts = house.texts()
    tables = {name: text.partition('"tensors"')[2] for name, text in texts.items()}
    house.write(one=ONE)
    house.lock()
    assert tables["models.lock/one@1.json"] == house.texts()["models.lock/one@1.json"].partition('"tensors"')[2]
    assert "models.lock/one@1+mmproj.json" not in house.texts()


def test_check_says_what_lock_would_change(house: House) -> None:
    missing = house.run("lock", "--check")
    assert missing.returncode == 1
    assert "models.yaml:14:19: error KI301" in missing.stderr

    house.lock()
    assert house.lock("--check").stdout == "models.lock.yaml: 1 pinned, 0 derived, fits.\n"

    house.write(one="hf://owner/name/two.gguf", two="hf://owner/name/two.gguf")
    before = house.texts()
    (house.folder / "models.lock" / "old@1.json").write_text("{}")
    house.hub.requests.clear()
    stale = house.run("lock", "--check")
    assert stale.returncode == 1
    for words in (
        "models.yaml:14:19: error KI302",
        "models.yaml:24:19: error KI301",
        "models.lock/old@1.json: error KI327",
    ):
        assert words in stale.stderr
    assert house.texts() == {**before, "models.lock/old@1.json": "{}"}
    assert house.hub.requests == []

    house.lock()
    house.write(one="hf://owner/name/two.gguf")
    assert "weights.two@1: error KI326" in house.run("lock", "--check").stderr
    assert house.run("lock", "--check", "--refresh").returncode == 2


def test_a_damaged_header_is_read_again_where_the_lock_pins_it(house: House, ggufs: dict[str, bytes]) -> None:
    house.lock()
    before = house.texts()
    (house.folder / "models.lock" / "one@1.json").write_text("{}")
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, {"one.gguf": ggufs["two.gguf"]})
    damaged = house.run("lock", "--check")
    assert (damaged.returncode, damaged.stderr.count("error KI")) == (1, 1)
    assert "KI306" in damaged.stderr

    house.lock()

    assert house.texts() == before


def test_a_lock_that_is_none_is_not_thrown_away(house: House) -> None:
    (house.folder / "models.lock.yaml").write_text("<<<<<<< HEAD\n")

    refused = house.run("lock")

    assert refused.returncode == 1
    assert "Restore the lock from Git" in refused.stderr
    assert (house.folder / "models.lock.yaml").read_text() == "<<<<<<< HEAD\n"


def test_what_failed_is_placed_and_the_rest_is_kept(house: House) -> None:
    house.write(one=ONE, two="hf://owner/name/tow.gguf")

    refused = house.run("lock")

    assert refused.returncode == 1
    assert "models.yaml:24:19: error KI312" in refused.stderr
    assert "Did you mean two.gguf" in refused.stderr
    assert list(house.entries()) == ["one@1"]
    house.hub.requests.clear()
    house.write(one=ONE, two="hf://owner/name/two.gguf")
    house.lock()
    assert not house.hub.asked("one.gguf")


def test_files_that_are_no_usable_gguf_are_all_named_at_once(house: House, ggufs: dict[str, bytes]) -> None:
    one = ggufs["one.gguf"]
    bad = {
        "magic": b"PK\x03\x04" + one[4:],
        "cut": one[:300],
        "version": one[:4] + struct.pack("<I", 1) + one[8:],
        "endian": one[:4] + struct.pack(">I", 3) + one[8:],
        "alone": ggufs["m-00002-of-00003.gguf"],
    }
    files = {f"{name}.gguf": content for name, content in bad.items()}
    house.hub.repositories["owner/name"] = a_repository(files)
    house.write(**{name: f"hf://owner/name/{name}.gguf" for name in bad})

    refused = house.run("lock")

    assert refused.returncode == 1
    said = re.findall(r"^models\.yaml:(\d+):19: error (KI3\d\d) ", refused.stderr, re.MULTILINE)
    assert [code for _, code in said] == ["KI313", "KI313", "KI323", "KI323", "KI315"]
    assert "5 errors" in refused.stderr
    assert not (house.folder / "models.lock.yaml").exists()


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)  # the pause between two polls of a condition with a deadline


def test_a_pin_whose_header_is_lost_survives_an_interruption(house: House, ggufs: dict[str, bytes]) -> None:
    house.write(one=ONE)
    house.lock()
    (house.folder / "models.lock" / "one@1.json").write_text("{}")
    before = house.texts()
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, ggufs)
    house.write(one=ONE, two="hf://owner/name/two.gguf")
    house.hub.requests.clear()
    house.hub.faults.append(Fault(is_stalled=True, only="/one.gguf"))
    process = house.start("lock")
    wait_for(house.folder / "models.lock" / "two@1.json")

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert house.entries()["one@1"] == yaml.safe_load(before["models.lock.yaml"])["weights"]["one@1"]
    assert house.entries()["two@1"]["revision"] == A_LATER_COMMIT
    house.lock()
    revisions = {key: entry["revision"] for key, entry in house.entries().items()}
    assert revisions == {"one@1": A_COMMIT, "two@1": A_LATER_COMMIT}


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_goes_on_where_it_stopped(house: House, blow: signal.Signals) -> None:
    house.write(one=ONE, two="hf://owner/name/two.gguf")
    house.hub.faults.append(Fault(is_stalled=True, only="/two.gguf"))
    process = house.start("lock")
    wait_for(house.folder / "models.lock.yaml")

    process.send_signal(blow)
    process.communicate(timeout=60)

    assert process.returncode != 0
    assert list(house.entries()) == ["one@1"]
    house.hub.requests.clear()
    house.lock()
    assert list(house.entries()) == ["one@1", "two@1"]
    assert not house.hub.asked("one.gguf")
