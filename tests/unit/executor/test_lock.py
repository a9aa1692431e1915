"""Locking: what is read, what is kept, what is derived, and what is said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.lock import HEAD_BYTES, LockWorld, lock_models
from kloros_infra.ir.config import Config
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, Origin
from kloros_infra.placement.published import derive_header
from tests.factories import a_gguf_header, a_lock, some_weights
from tests.fakes.weights import HeldFile, HeldFiles

URL = "file:///weights/small.gguf"
KEY = "small@1"


def a_config(*versions: dict[str, Any]) -> Config:
    """Build a models.yaml of one model with these versions."""
    return Config.model_validate_json(
        _as_json(
            version=1,
            hosts={"astraea": {}},
            profiles={"cpu_only": {"gpus": []}},
            models=[
                {
                    "id": "small",
                    "display_name": "Small",
                    "purpose_tags": ["fast"],
                    "context_tokens": 2048,
                    "cost_tier": "low",
                    "current_version": "1",
                    "versions": [
                        {"version_id": str(number), "gguf_url": URL, **version}
                        for number, version in enumerate(versions or ({},), start=1)
                    ],
                    "profiles": {"cpu_only": {"port": 8601}},
                }
            ],
        )
    )


def _as_json(**values: Any) -> str:
    return json.dumps(values)


@dataclass
class World:
    """A source in memory, a header reader that knows one header, and a record of what was told."""

    source: HeldFiles
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    read: list[tuple[bytes, int, str]] = field(default_factory=list)
    header: GgufHeader = field(default_factory=a_gguf_header)

    def read_header(self, head: bytes, *, size_bytes: int, name: str) -> GgufHeader:
        self.read.append((head, size_bytes, name))
        if head.startswith(b"nonsense"):
            raise ObstacleError([Diagnostic("KI313", "Not a whole GGUF file", f"{name}: bad magic.", "Fetch it.")])
        return self.header

    def on_progress(self, key: str, done: int, total: int) -> None:
        self.progress.append((key, done, total))

    def lock(self, config: Config, existing: Lock | None = None, *, refresh: bool = False) -> tuple[Lock, Problems]:
        return lock_models(
            config, existing, LockWorld((self.source,), self.read_header, self.on_progress), refresh=refresh
        )


def a_world(**files: HeldFile) -> World:
    """Build a world whose source holds files, by the name in `file:///weights/<name>.gguf`."""
    held = {f"file:///weights/{name}.gguf": file for name, file in files.items()}
    return World(HeldFiles(held, scheme="file://", origin=Origin.FILE))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def codes(problems: Problems) -> list[str]:
    return [problem.code for problem in problems]


def test_a_file_is_read_and_pinned() -> None:
    content = bytes(range(250)) * 10
    world = a_world(small=HeldFile(content, revision="v1"))

    lock, problems = world.lock(a_config())

    assert problems == ()
    assert lock.weights[KEY] == LockedWeights(
        key=KEY,
        origin=Origin.FILE,
        source=(URL,),
        revision="v1",
        files=(LockedFile(URL, 2500, sha256(content)),),
        size_bytes=2500,
        sha256=sha256(content),
        header=world.header,
    )
    assert world.read == [(content, 2500, KEY)]
    assert world.progress == [(KEY, 1000, 2500), (KEY, 2000, 2500), (KEY, 2500, 2500)]


def test_parts_are_joined_in_order() -> None:
    world = a_world(b=HeldFile(b"second", revision="b 1"), a=HeldFile(b"first", revision="a 1"))
    urls = ["file:///weights/b.gguf", "file:///weights/a.gguf"]

    lock, problems = world.lock(a_config({"gguf_url": urls}))

    assert problems == ()
    entry = lock.weights[KEY]
    assert entry.sha256 == sha256(b"secondfirst")
    assert [file.sha256 for file in entry.files] == [sha256(b"second"), sha256(b"first")]
    assert (entry.size_bytes, entry.revision) == (11, "b 1, a 1")
    assert world.read == [(b"secondfirst", 11, KEY)]


def test_a_header_is_looked_for_at_the_beginning_only() -> None:
    world = a_world(a=HeldFile(bytes(HEAD_BYTES), is_vouched=True), b=HeldFile(b"more"))

    world.lock(a_config({"gguf_url": ["file:///weights/a.gguf", "file:///weights/b.gguf"]}))

    assert [(len(head), size_bytes) for head, size_bytes, _ in world.read] == [(HEAD_BYTES, HEAD_BYTES + 4)]


def test_parts_of_one_revision_name_it_once_and_one_without_has_none() -> None:
    world = a_world(a=HeldFile(b"a", revision="v"), b=HeldFile(b"b", revision="v"), c=HeldFile(b"c", revision=None))
    two, three = ([f"file:///weights/{name}.gguf" for name in names] for names in ("ab", "abc"))

    lock, _ = world.lock(a_config({"gguf_url": two}, {"gguf_url": three}))

    assert lock.weights["small@1"].revision == "v"
    assert lock.weights["small@2"].revision is None


def test_what_the_source_vouches_for_is_not_read_to_its_end() -> None:
    world = a_world(small=HeldFile(b"weights", is_vouched=True))

    lock, _ = world.lock(a_config())

    assert lock.weights[KEY].sha256 == sha256(b"weights")
    assert world.source.read_in_full == []


def test_an_unchanged_entry_is_kept_unread() -> None:
    config = a_config()
    world = a_world(small=HeldFile(b"weights"))
    before, _ = world.lock(config)
    world.source.read_in_full.clear()

    assert world.lock(config, before) == (before, ())
    assert world.source.read_in_full == []
    assert world.lock(config, before, refresh=True) == (before, ())
    assert world.source.read_in_full == [URL]


@pytest.mark.parametrize(
    "now",
    [HeldFile(b"weights", revision="2"), HeldFile(b"longer weights"), HeldFile(b"WEIGHTS", revision=None)],
    ids=["revision", "size", "nothing pins it"],
)
def test_an_entry_that_may_have_changed_is_read_again(now: HeldFile) -> None:
    before, _ = a_world(small=HeldFile(b"weights")).lock(a_config())

    lock, problems = a_world(small=now).lock(a_config(), before)

    assert problems == ()
    assert lock.weights[KEY].sha256 == sha256(now.content)


def test_another_source_is_read_even_if_it_looks_the_same() -> None:
    world = a_world(small=HeldFile(b"weights"), moved=HeldFile(b"WEIGHTS"))
    before, _ = world.lock(a_config())

    lock, _ = world.lock(a_config({"gguf_url": "file:///weights/moved.gguf"}), before)

    assert lock.weights[KEY].sha256 == sha256(b"WEIGHTS")


def test_entries_of_versions_that_are_gone_go_too() -> None:
    lock, _ = a_world(small=HeldFile(b"weights")).lock(a_config(), a_lock(some_weights("gone@1")))

    assert list(lock.weights) == [KEY]


def test_what_cannot_be_reached_is_derived_where_its_architecture_is_known() -> None:
    lock, (problem,) = a_world().lock(a_config({"architecture": "qwen2.5-7b", "quantization": "Q4_0"}))

    entry = lock.weights[KEY]
    assert (problem.code, problem.is_error, problem.address) == ("KI319", False, "models.small.versions.1")
    assert "there is no such file" in problem.detail
    assert entry.header == derive_header("qwen2.5-7b", "Q4_0")
    assert entry.is_derived
    assert (entry.source, entry.files, entry.sha256, entry.revision) == ((URL,), (), None, None)
    assert entry.size_bytes == entry.header.weights_bytes


def test_a_derived_entry_is_replaced_as_soon_as_the_file_is_there() -> None:
    config = a_config({"architecture": "qwen2.5-7b", "quantization": "Q4_0"})
    before, _ = a_world().lock(config)

    lock, problems = a_world(small=HeldFile(b"weights")).lock(config, before)

    assert problems == ()
    assert not lock.weights[KEY].is_derived


@pytest.mark.parametrize("refresh", [True, False])
def test_what_was_pinned_is_not_given_up_because_it_cannot_be_reached(refresh: bool) -> None:
    before, _ = a_world(small=HeldFile(b"weights")).lock(a_config())

    lock, (problem,) = a_world().lock(
        a_config({"architecture": "qwen2.5-7b", "quantization": "Q4_0"}), before, refresh=refresh
    )

    assert (problem.code, problem.is_error) == ("KI320", False)
    assert lock == before


@pytest.mark.parametrize("before", [None, a_lock(some_weights(KEY, origin=Origin.DERIVED, source=(URL,)))])
def test_what_cannot_be_reached_and_says_nothing_is_an_error(before: Lock | None) -> None:
    lock, (problem,) = a_world().lock(a_config(), before)

    assert (problem.code, problem.is_error, problem.address) == ("KI310", True, "models.small.versions.1")
    assert lock.weights == {}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ({"architecture": "qwen2.5-7b"}, "it names no quantization"),
        ({"quantization": "Q4_0"}, "it names no architecture"),
        ({"architecture": "qwen2.5-7", "quantization": "Q4_0"}, "qwen2.5-7 is not known (did you mean qwen2.5-7b?)"),
        ({"architecture": "qwen2.5-7b", "quantization": "Q4_K"}, "Q4_K is not known (did you mean Q4_K_M?)"),
        ({"architecture": "something-else", "quantization": "Q4_0"}, "architecture something-else is not known."),
    ],
)
def test_what_cannot_be_derived_says_why(version: dict[str, str], words: str) -> None:
    lock, (problem,) = a_world().lock(a_config(version))

    assert problem.code == "KI321"
    assert words in problem.detail
    assert lock.weights == {}


def test_all_problems_are_reported_at_once_and_the_rest_is_locked() -> None:
    world = a_world(small=HeldFile(b"weights"), bad=HeldFile(b"nonsense"))

    lock, problems = world.lock(
        a_config(
            {},
            {"gguf_url": "file:///weights/bad.gguf"},
            {"gguf_url": "file:///weights/absent.gguf"},
            {"gguf_url": "hf://owner/name/m.gguf"},
        )
    )

    assert list(lock.weights) == [KEY]
    assert [(problem.address[-1], problem.code) for problem in problems] == [
        ("2", "KI313"),
        ("3", "KI310"),
        ("4", "KI318"),
    ]


def test_what_is_no_gguf_is_not_read_to_its_end() -> None:
    world = a_world(small=HeldFile(b"nonsense"))

    assert codes(world.lock(a_config())[1]) == ["KI313"]
    assert world.source.read_in_full == []


def test_parts_on_the_hub_are_of_one_commit() -> None:
    world = a_world(a=HeldFile(b"a", revision="c1"), b=HeldFile(b"b", revision="c2"))
    world.source = replace(world.source, origin=Origin.HUB)
    urls = ["file:///weights/a.gguf", "file:///weights/b.gguf"]

    (problem,) = world.lock(a_config({"gguf_url": urls}))[1]

    assert problem.code == "KI322"
    assert "c1, c2" in problem.detail
