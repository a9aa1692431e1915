"""What gc may remove: never what is current, new enough, or loaded by an installed unit."""

from __future__ import annotations

import pytest

from kloros_infra.ir.layout import Layout
from kloros_infra.planner.garbage import (
    LEFT_OVER,
    NOT_NAMED,
    OLD,
    Garbage,
    StoredVersion,
    find_garbage,
    find_left_over,
    old_versions,
    versions_in_use,
)
from tests.unit.editing.configs import a_config, a_spec

LAYOUT = Layout()
CONFIG = a_config(
    a_spec("one", versions=["1", "2", "3", "4"], current_version="2"),
    a_spec("two", versions=["1"]),
    a_spec("far", versions=[]),
)


def stored(*versions: str) -> list[str]:
    return [f"{LAYOUT.weights}/{version}/model.gguf" for version in versions]


EVERYTHING = stored("one/1", "one/2", "one/3", "one/4", "two/1", "two/0", "gone/7", "far/1")


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (1, {"far/1": NOT_NAMED, "gone/7": NOT_NAMED, "one/1": OLD, "one/3": OLD, "two/0": NOT_NAMED}),
        (2, {"far/1": NOT_NAMED, "gone/7": NOT_NAMED, "one/1": OLD, "two/0": NOT_NAMED}),
        (9, {"far/1": NOT_NAMED, "gone/7": NOT_NAMED, "two/0": NOT_NAMED}),
    ],
)
def test_what_is_old_or_not_named_goes(keep: int, expected: dict[str, str]) -> None:
    found = find_garbage(CONFIG, EVERYTHING, frozenset(), keep=keep, layout=LAYOUT)
    assert {f"{one.version.model_id}/{one.version.version_id}": one.reason for one in found} == expected


def test_what_is_installed_stays() -> None:
    texts = [
        "LLAMA_ARG_MODEL='/srv/x/var/lib/llama-models/one/1/model.gguf'\n",
        "ExecStart=/bin/x /var/lib/llama-models/gone/7/model-00001-of-00002.gguf\n",
        "nothing\n",
    ]
    in_use = versions_in_use(texts, LAYOUT)
    assert in_use == {StoredVersion("one", "1"), StoredVersion("gone", "7")}
    found = find_garbage(CONFIG, EVERYTHING, in_use, keep=2, layout=LAYOUT)
    assert [one.version.model_id for one in found] == ["far", "two"]


def test_everything_of_a_version_goes_together() -> None:
    paths = [*stored("gone/7"), f"{LAYOUT.weights}/gone/7/mmproj.gguf"]
    found = find_garbage(CONFIG, paths, frozenset(), keep=2, layout=LAYOUT)
    assert found == (Garbage(StoredVersion("gone", "7"), tuple(sorted(paths)), NOT_NAMED),)


def test_old_versions_of_the_file_are_listed_whether_stored_or_not() -> None:
    assert old_versions(CONFIG, 2) == (StoredVersion("one", "1"),)
    assert old_versions(CONFIG, 1) == (StoredVersion("one", "1"), StoredVersion("one", "3"))


def test_files_left_over_go_by_version_but_for_those_in_use() -> None:
    folder = Layout().weights
    paths = [f"{folder}/a/1/model.gguf", f"{folder}/a/1/.model.gguf.partial", f"{folder}/b/2/x", f"{folder}/c/3/x"]

    found = find_left_over(paths, frozenset({StoredVersion("b", "2")}), layout=Layout())

    assert found == (
        Garbage(StoredVersion("a", "1"), tuple(sorted(paths[:2])), LEFT_OVER),
        Garbage(StoredVersion("c", "3"), (paths[3],), LEFT_OVER),
    )
