"""Locking: what is read, what is kept, what is derived, and what is said."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from kloros_infra.diagnostics import Diagnostic, Problems
from kloros_infra.errors import ObstacleError
from kloros_infra.executor.lock import MOST_AT_ONCE, LockRequest, LockWorld, lock_models
from kloros_infra.ir.config import Config
from kloros_infra.ir.gguf import GgufHeader
from kloros_infra.ir.lock import Lock, LockedFile, LockedWeights, Origin, Pin
from kloros_infra.ir.split_gguf import set_sha256
from kloros_infra.ir.weights_source import RangedFile, SourceFacts
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


A_PROJECTOR = replace(
    a_gguf_header(), architecture="clip", layer_count=0, embedding_length=0, head_count_kv=(), has_vision=True
)


@dataclass
class World:
    """A source in memory, a header reader that knows two headers, and a record of what was told."""

    source: HeldFiles
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    read: list[tuple[list[bytes], str]] = field(default_factory=list)
    told: list[LockedWeights] = field(default_factory=list)
    header: GgufHeader = field(default_factory=a_gguf_header)

    def read_header(self, files: Sequence[RangedFile], *, name: str) -> GgufHeader:
        heads = [file.read(0, file.size_bytes) for file in files]
        self.read.append((heads, name))
        if heads[0].startswith(b"nonsense"):
            raise ObstacleError([Diagnostic("KI313", "Not a whole GGUF file", f"{name}: bad magic.", "Fetch it.")])
        return A_PROJECTOR if heads[0].startswith(b"clip") else self.header

    def on_progress(self, key: str, done: int, total: int) -> None:
        self.progress.append((key, done, total))

    def lock(self, config: Config, existing: Lock | None = None, **wishes: Any) -> tuple[Lock, Problems]:
        request = LockRequest(existing.weights if existing else {}, **wishes)
        world = LockWorld((self.source,), self.read_header, self.on_progress, self.told.append)
        return lock_models(config, request, world)


def a_world(**files: HeldFile) -> World:
    """Build a world whose source holds files, by the name in `file:///weights/<name>.gguf`."""
    held = {f"file:///weights/{name}.gguf": file for name, file in files.items()}
    return World(HeldFiles(held, scheme="file://", origin=Origin.FILE))


def a_hub_world(**files: HeldFile) -> World:
    """Build a world whose source is a hub: its revisions are commits."""
    world = a_world(**files)
    world.source.origin = Origin.HUB
    return world


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
    assert world.read == [([content], KEY)]
    assert world.progress == [(KEY, 0, 2500), (KEY, 1000, 2500), (KEY, 2000, 2500), (KEY, 2500, 2500)]
    assert world.told == [lock.weights[KEY]]


def test_parts_are_joined_in_order() -> None:
    world = a_world(b=HeldFile(b"second", revision="b 1"), a=HeldFile(b"first", revision="a 1"))
    urls = ["file:///weights/b.gguf", "file:///weights/a.gguf"]

    lock, problems = world.lock(a_config({"gguf_url": urls}))

    assert problems == ()
    entry = lock.weights[KEY]
    assert entry.sha256 == sha256(b"secondfirst")
    assert [file.sha256 for file in entry.files] == [sha256(b"second"), sha256(b"first")]
    assert (entry.size_bytes, entry.revision) == (11, "b 1, a 1")
    assert world.read == [([b"secondfirst"], KEY)]


def test_parts_that_are_joined_are_read_as_one() -> None:
    world = a_world(a=HeldFile(b"abc"), b=HeldFile(b"de"), c=HeldFile(b"fghi"))
    pieces: list[bytes] = []

    def read_header(files: Sequence[RangedFile], *, name: str) -> GgufHeader:
        (file,) = files
        pieces.extend(file.read(start, length) for start, length in ((0, 2), (1, 5), (3, 2), (4, 99), (9, 1)))
        assert (file.name, file.size_bytes) == (KEY, 9)
        return world.header

    world.read_header = read_header  # type: ignore[method-assign]  # the reader is what is asked here
    world.lock(a_config({"gguf_url": [f"file:///weights/{name}.gguf" for name in "abc"]}))

    assert pieces == [b"ab", b"bcdef", b"de", b"efghi", b""]


PARTS = tuple(f"file:///weights/m-0000{number}-of-00003.gguf" for number in (1, 2, 3))


def a_split(**changes: HeldFile) -> World:
    """Build a world that holds a split GGUF whose parts are vouched for."""
    files = {f"m-0000{number}-of-00003": HeldFile(b"part %d" % number, is_vouched=True) for number in (1, 2, 3)}
    return a_hub_world(**{**files, **changes})


@pytest.mark.parametrize("url", [*PARTS, list(PARTS), [PARTS[2], PARTS[0]]], ids=["1", "2", "3", "all", "some"])
def test_any_part_of_a_split_gguf_stands_for_all(url: str | list[str]) -> None:
    world = a_split()

    lock, problems = world.lock(a_config({"gguf_url": url}))

    assert problems == ()
    entry = lock.weights[KEY]
    assert entry.source == ((url,) if isinstance(url, str) else tuple(url))
    assert [file.source for file in entry.files] == list(PARTS)
    assert [file.sha256 for file in entry.files] == [sha256(b"part %d" % number) for number in (1, 2, 3)]
    assert (entry.sha256, entry.size_bytes) == (set_sha256(file.sha256 for file in entry.files), 18)
    assert entry.part_count == 3
    assert world.read == [([b"part 1", b"part 2", b"part 3"], KEY)]
    assert world.source.read_in_full == []


def test_all_parts_of_a_split_gguf_are_of_the_commit_of_the_first() -> None:
    world = a_split()

    world.lock(a_config({"gguf_url": PARTS[1]}))

    assert world.source.looked_at == [(PARTS[0], None), (PARTS[1], "1"), (PARTS[2], "1")]


def test_parts_that_nobody_vouches_for_are_hashed() -> None:
    world = a_split(**{"m-00002-of-00003": HeldFile(b"other")})

    lock, _ = world.lock(a_config({"gguf_url": PARTS[0]}))

    assert [file.sha256 for file in lock.weights[KEY].files][1] == sha256(b"other")
    assert world.source.read_in_full == [PARTS[1]]
    assert world.progress[-1] == (KEY, 17, 17)


def test_a_split_of_one_part_is_one_file() -> None:
    url = "file:///weights/m-00001-of-00001.gguf"
    world = a_world(**{"m-00001-of-00001": HeldFile(b"all of it")})

    lock, _ = world.lock(a_config({"gguf_url": url}))

    assert (lock.weights[KEY].sha256, lock.weights[KEY].part_count) == (sha256(b"all of it"), 1)


MMPROJ = "file:///weights/mmproj.gguf"


def test_a_projector_is_an_entry_of_its_own() -> None:
    world = a_world(small=HeldFile(b"weights"), mmproj=HeldFile(b"clip"))

    lock, problems = world.lock(a_config({"mmproj_url": MMPROJ}))

    assert problems == ()
    assert list(lock.weights) == [KEY, f"{KEY}+mmproj"]
    assert lock.weights[f"{KEY}+mmproj"].header == A_PROJECTOR
    assert lock.weights[f"{KEY}+mmproj"].source == (MMPROJ,)


def test_a_model_and_a_projector_do_not_change_places() -> None:
    world = a_world(small=HeldFile(b"clip"), mmproj=HeldFile(b"weights"))

    _, problems = world.lock(a_config({"mmproj_url": MMPROJ}))

    assert [(problem.code, problem.address) for problem in problems] == [
        ("KI328", "models.small.versions.1.gguf_url"),
        ("KI328", "models.small.versions.1.mmproj_url"),
    ]
    assert [problem.detail for problem in problems] == [
        "small@1 is a clip file, which is a projector.",
        "small@1+mmproj is a qwen2 file, which is a model.",
    ]


def test_a_projector_is_not_derived() -> None:
    version = {"architecture": "qwen2.5-7b", "quantization": "Q4_0", "mmproj_url": MMPROJ}

    lock, problems = a_world().lock(a_config(version))

    assert list(lock.weights) == [KEY]
    assert codes(problems) == ["KI319", "KI310"]


def test_the_sha256_of_models_yaml_must_be_that_of_the_weights() -> None:
    world = a_world(small=HeldFile(b"weights"))

    assert world.lock(a_config({"sha256": sha256(b"weights")}))[1] == ()
    lock, (problem,) = world.lock(a_config({"sha256": "0" * 64}))

    assert lock.weights == {}
    assert problem.code == "KI329"
    assert sha256(b"weights") in problem.detail


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
    assert world.lock(config, before, is_refresh=True) == (before, ())
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


def test_what_is_on_the_hub_stays_at_its_commit_without_being_asked_for() -> None:
    before, _ = a_hub_world(small=HeldFile(b"weights", revision="c1")).lock(a_config())
    world = a_hub_world(small=HeldFile(b"moved", revision="c2"))

    assert world.lock(a_config(), before) == (before, ())
    assert world.source.looked_at == []
    assert world.told == []


def test_a_refresh_reads_again_at_the_pinned_commit() -> None:
    config = a_config()
    world = a_hub_world(small=HeldFile(b"weights", revision="c1"))
    before, _ = world.lock(config)
    world.source.looked_at.clear()

    assert world.lock(config, before, is_refresh=True) == (before, ())
    assert world.source.looked_at == [(URL, "c1")]
    assert len(world.read) == 2


def test_an_upgrade_moves_the_named_model_alone() -> None:
    config = a_config()
    (model,) = config.models
    version = model.versions[0].model_copy(update={"gguf_url": ("file:///weights/other.gguf",)})
    second = model.model_copy(update={"id": "other", "versions": (version,)})
    other = config.model_copy(update={"models": (model, second)})
    files = {name: HeldFile(name.encode(), revision="c1") for name in ("small", "other")}
    before, _ = a_hub_world(**files).lock(other)
    moved = {name: HeldFile(b"moved", revision="c2") for name in files}

    lock, problems = a_hub_world(**moved).lock(other, before, upgraded=frozenset({"other"}))

    assert problems == ()
    assert lock.weights[KEY] == before.weights[KEY]
    assert (lock.weights["other@1"].revision, lock.weights["other@1"].sha256) == ("c2", sha256(b"moved"))


def test_an_upgrade_to_where_it_is_already_reads_nothing() -> None:
    world = a_hub_world(small=HeldFile(b"weights", revision="c1"))
    before, _ = world.lock(a_config())

    assert world.lock(a_config(), before, upgraded=frozenset({"small"})) == (before, ())
    assert len(world.read) == 1


def test_an_entry_whose_header_is_lost_stays_at_what_it_pins() -> None:
    world = a_hub_world(small=HeldFile(b"weights", revision="c1"))
    pin = Pin((URL,), Origin.HUB, "c1")

    world.lock(a_config(), pins={KEY: pin})
    world.lock(a_config(), pins={KEY: replace(pin, source=("file:///elsewhere",))})
    world.lock(a_config(), pins={KEY: pin}, upgraded=frozenset({"small"}))

    assert world.source.looked_at == [(URL, "c1"), (URL, None), (URL, None)]


def test_an_entry_that_an_earlier_version_wrote_is_read_again_where_it_is() -> None:
    world = a_hub_world(small=HeldFile(b"weights", revision="c1"))
    before, _ = world.lock(a_config())
    pins = {KEY: Pin((URL,), Origin.HUB, "c1")}

    assert world.lock(a_config(), before, pins=pins) == (before, ())
    assert world.source.looked_at[1:] == [(URL, "c1")]
    lock, (problem,) = a_hub_world().lock(a_config(), before, pins=pins)
    assert (problem.code, lock) == ("KI320", before)


def test_several_are_read_at_a_time_and_the_order_does_not_matter() -> None:
    together = threading.Barrier(MOST_AT_ONCE, timeout=30)
    names = [f"m{number}" for number in range(MOST_AT_ONCE)]
    world = a_world(**{name: HeldFile(name.encode()) for name in names})

    def read_header(files: Sequence[RangedFile], *, name: str) -> GgufHeader:
        together.wait()
        return world.header

    world.read_header = read_header  # type: ignore[method-assign]  # one that waits for the others
    lock, _ = world.lock(a_config(*({"gguf_url": f"file:///weights/{name}.gguf"} for name in names)))

    assert list(lock.weights) == sorted(lock.weights)
    assert [entry.sha256 for entry in lock.weights.values()] == [sha256(name.encode()) for name in names]


def test_what_is_pinned_before_an_interruption_was_told_and_the_rest_is_not_read_to_its_end() -> None:
    names = [f"m{number}" for number in range(20)]
    large = bytes(20_000_000)
    world = a_world(**{name: HeldFile(large if name != "m0" else b"small") for name in names})
    config = a_config(*({"gguf_url": f"file:///weights/{name}.gguf"} for name in names))
    told: list[LockedWeights] = []

    def interrupt(entry: LockedWeights) -> None:
        told.append(entry)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lock_models(config, LockRequest(), LockWorld((world.source,), world.read_header, world.on_progress, interrupt))

    assert len(told) == 1
    assert len(world.source.read_in_full) < len(names)


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
    assert (problem.code, problem.is_error, problem.address) == ("KI319", False, "models.small.versions.1.gguf_url")
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
        a_config({"architecture": "qwen2.5-7b", "quantization": "Q4_0"}), before, is_refresh=refresh
    )

    assert (problem.code, problem.is_error) == ("KI320", False)
    assert lock == before


def test_what_is_kept_unread_must_be_what_models_yaml_says_too() -> None:
    before, _ = a_world(small=HeldFile(b"weights")).lock(a_config())

    lock, problems = a_world().lock(a_config({"sha256": "0" * 64}), before, is_refresh=True)

    assert codes(problems) == ["KI320", "KI329"]
    assert lock.weights == {}


def test_an_upgrade_to_what_cannot_be_reached_is_an_error() -> None:
    world = a_hub_world(small=HeldFile(b"weights", revision="c1"))
    before, _ = world.lock(a_config())
    config = a_config({"architecture": "qwen2.5-7b", "quantization": "Q4_0"})

    _, (problem,) = a_hub_world().lock(config, before, upgraded=frozenset({"small"}))

    assert (problem.code, problem.is_error) == ("KI310", True)


def test_what_is_wrong_with_the_machine_is_said_once() -> None:
    class Unusable(HeldFiles):
        def look(self, url: str, revision: str | None = None) -> SourceFacts:
            raise ObstacleError([Diagnostic("KI331", "Setting cannot be used", f"{self.scheme} is none.", "Mend it.")])

    world = World(Unusable({}, scheme="file://"))

    assert codes(world.lock(a_config({}, {}, {}))[1]) == ["KI331"]


@pytest.mark.parametrize("before", [None, a_lock(some_weights(KEY, origin=Origin.DERIVED, source=(URL,)))])
def test_what_cannot_be_reached_and_says_nothing_is_an_error(before: Lock | None) -> None:
    lock, (problem,) = a_world().lock(a_config(), before)

    assert (problem.code, problem.is_error, problem.address) == ("KI310", True, "models.small.versions.1.gguf_url")
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
    assert [(problem.address.split(".")[3], problem.code) for problem in problems] == [
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
