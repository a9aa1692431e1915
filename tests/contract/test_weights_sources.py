"""Every source of weights behaves alike: packages, plain files, the hub, and the fake in memory."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from kloros_infra.adapters import packages
from kloros_infra.adapters.hub import HubFiles
from kloros_infra.adapters.hub_on_demand import HubOnDemand
from kloros_infra.adapters.local_files import LocalFiles, read_piece
from kloros_infra.adapters.packages import PackageFiles, find_in_package
from kloros_infra.adapters.weights_store import StoredSource
from kloros_infra.errors import ObstacleError, UnreachableError
from kloros_infra.executor.lock_ports import WeightsSource
from kloros_infra.ir.lock import Origin
from tests.fakes.hub import A_COMMIT, a_hub
from tests.fakes.weights import HeldFile, HeldFiles
from tests.needed import need

CONTENT = bytes(range(256)) * 10_000


class Source(WeightsSource, StoredSource, Protocol):
    """What lock and store together ask of a source."""


@dataclass(frozen=True, slots=True)
class Case:
    """A source that has one file and lacks another."""

    source: Source
    present: str
    absent: str
    origin: Origin
    revision: str | None


def a_fake(folder: Path, stack: ExitStack) -> Case:
    source = HeldFiles({"held://m.gguf": HeldFile(CONTENT)}, folder)
    return Case(source, "held://m.gguf", "held://other", Origin.PACKAGE, "1")


def plain_files(folder: Path, stack: ExitStack) -> Case:
    (folder / "m.gguf").write_bytes(CONTENT)
    return Case(LocalFiles(), f"file://{folder}/m.gguf", f"file://{folder}/other", Origin.FILE, None)


def a_package(folder: Path, stack: ExitStack) -> Case:
    """Lay out what an installed distribution leaves behind, with code that must not run."""
    module = folder / "weights_in_a_package"
    (module / "data").mkdir(parents=True)
    (module / "__init__.py").write_text("raise AssertionError('imported')")
    (module / "data" / "m.gguf").write_bytes(CONTENT)
    info = folder / "some_weights-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n")
    (info / "RECORD").write_text("weights_in_a_package/__init__.py,,\n")
    sys.path.insert(0, str(folder))
    stack.callback(sys.path.remove, str(folder))
    importlib.invalidate_caches()
    url = "package://weights_in_a_package/data"
    return Case(PackageFiles(), f"{url}/m.gguf", f"{url}/other", Origin.PACKAGE, "some-weights 1.2")


def the_hub(folder: Path, stack: ExitStack) -> Case:
    hub = stack.enter_context(a_hub({"owner/name": {"sub/m.gguf": CONTENT}}))
    source = HubFiles(endpoint=hub.endpoint, cache=folder)
    return Case(source, "hf://owner/name/sub/m.gguf", "hf://owner/name/other", Origin.HUB, A_COMMIT)


def the_hub_on_demand(folder: Path, stack: ExitStack) -> Case:
    hub = stack.enter_context(a_hub({"owner/name": {"sub/m.gguf": CONTENT}}))
    source = HubOnDemand(HubFiles(endpoint=hub.endpoint, cache=folder))
    return Case(source, "hf://owner/name/sub/m.gguf", "hf://owner/name/other", Origin.HUB, A_COMMIT)


@pytest.fixture(params=[a_fake, plain_files, a_package, the_hub, the_hub_on_demand], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    make: Callable[[Path, ExitStack], Case] = request.param
    with ExitStack() as stack:
        yield make(tmp_path, stack)


def test_it_knows_its_own_urls(case: Case) -> None:
    assert case.source.handles(case.present)
    assert not case.source.handles("ftp://example.org/m.gguf")


def test_it_tells_revision_and_size_without_reading(case: Case) -> None:
    facts = case.source.look(case.present)

    assert (facts.origin, facts.revision, facts.size_bytes) == (case.origin, case.revision, len(CONTENT))
    assert facts.sha256 in (None, hashlib.sha256(CONTENT).hexdigest())


def test_the_facts_of_its_own_revision_are_the_same(case: Case) -> None:
    assert case.source.look(case.present, case.revision) == case.source.look(case.present)


def test_it_gives_any_piece(case: Case) -> None:
    for start, length in ((0, 1000), (0, 2 * len(CONTENT)), (777, 1000), (len(CONTENT) - 5, 10), (len(CONTENT), 10)):
        found = case.source.read(case.present, case.revision, start=start, length=length)
        assert found == CONTENT[start : start + length]


def test_it_gives_the_whole_file(case: Case) -> None:
    assert b"".join(case.source.pieces(case.present, case.revision)) == CONTENT
    assert case.source.locate(case.present, case.revision).read_bytes() == CONTENT
    assert case.source.is_reachable(case.present, case.revision)


def test_it_says_when_a_file_is_not_there(case: Case) -> None:
    assert not case.source.is_reachable(case.absent, case.revision)
    for ask in (
        lambda: case.source.look(case.absent),
        lambda: case.source.read(case.absent, case.revision, start=0, length=10),
        lambda: b"".join(case.source.pieces(case.absent, case.revision)),
    ):
        with pytest.raises((UnreachableError, ObstacleError)) as caught:
            ask()
        (problem,) = caught.value.problems
        assert problem.code in {"KI310", "KI312"}
        assert case.absent in problem.detail


def test_commands_that_want_nothing_of_the_hub_do_not_import_its_library() -> None:
    words = (
        "import sys; from kloros_infra.cli.wiring import weights_sources; *_, hub = weights_sources();"
        "assert hub.handles('hf://a/b/c'); assert 'huggingface_hub' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", words], check=True)


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(UnreachableError, match="no installed package has a module absent_weights"):
        PackageFiles().look("package://absent_weights/m.gguf")


def test_a_module_alone_has_no_files() -> None:
    assert find_in_package("package://colorsys/m.gguf") is None


def test_a_folder_on_the_path_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "bare_weights" / "inner").mkdir(parents=True)
    (tmp_path / "bare_weights" / "inner" / "m.gguf").write_bytes(CONTENT)
    sys.path.insert(0, str(tmp_path))
    try:
        importlib.invalidate_caches()
        assert PackageFiles().look("package://bare_weights.inner/m.gguf").revision is None
    finally:
        sys.path.remove(str(tmp_path))


def test_of_several_packages_in_one_namespace_the_one_with_the_file_counts(tmp_path: Path) -> None:
    for name, file in (("a-weights", "a.gguf"), ("b-weights", "b.gguf")):
        facts = tmp_path / f"{name.replace('-', '_')}-{name[0]}.0.dist-info"
        facts.mkdir()
        (tmp_path / "shared_weights").mkdir(exist_ok=True)
        (tmp_path / "shared_weights" / file).write_bytes(CONTENT)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{ord(name[0])}\n")
        (facts / "top_level.txt").write_text("shared_weights\n")
        (facts / "RECORD").write_text(f"shared_weights/{file},,\n{facts.name}/METADATA,,\n")
    (tmp_path / "shared_weights" / "own.gguf").write_bytes(CONTENT)
    sys.path.insert(0, str(tmp_path))
    forget_distributions()
    try:
        found = [PackageFiles().look(f"package://shared_weights/{name}.gguf").revision for name in ("a", "b", "own")]
    finally:
        sys.path.remove(str(tmp_path))
        forget_distributions()
    assert found == ["a-weights 1.97", "b-weights 1.98", None]


def forget_distributions() -> None:
    importlib.invalidate_caches()
    packages._distributions.cache_clear()


@pytest.mark.parametrize("name", ["x" * 300 + ".gguf", "closed/m.gguf"], ids=["too long", "no rights"])
def test_one_file_that_the_system_refuses_is_an_obstacle_of_its_own(tmp_path: Path, name: str) -> None:
    need(os.geteuid() == 0, "root, to become a user without rights")
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "m.gguf").write_bytes(CONTENT)
    closed.chmod(0o700)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ObstacleError, match="KI310"):
            LocalFiles().look(f"file://{tmp_path}/{name}")
        assert not LocalFiles().is_reachable(f"file://{tmp_path}/{name}", None)
    finally:
        os.seteuid(0)


def test_a_name_that_the_system_refuses_is_an_obstacle_in_a_package_too() -> None:
    url = f"package://encodings/{'x' * 300}.gguf"
    with pytest.raises(ObstacleError, match="KI310"):
        PackageFiles().look(url)
    assert not PackageFiles().is_reachable(url, None)


def test_what_is_no_plain_file_is_called_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UnreachableError, match="it is not a plain file"):
            LocalFiles().look(f"file://{path}")


def test_a_file_that_may_not_be_read_is_an_obstacle(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/m.gguf"
    (tmp_path / "m.gguf").symlink_to("m.gguf")
    with pytest.raises(UnreachableError, match="KI310"):
        LocalFiles().look(url)
    with pytest.raises(ObstacleError, match="KI310"):
        read_piece(url, tmp_path, start=0, length=1)
