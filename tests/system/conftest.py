"""System tests need root and systemd-nspawn: without them they fail in CI, and are left out, aloud, elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import on_free_ports
from tests.system.cards import PretendedCards, build_drivers, pretended_cards
from tests.system.container import Container, booted, install_project, missing_for_systemd
from tests.system.everything import everything
from tests.system.installed import INSIDE, Machine

CHECKOUT = Path(__file__).parents[2]
LAPTOP = CHECKOUT / "examples" / "laptop"
INSIDE_CHECKOUT = "/srv/checkout"
INSIDE_SITE_PACKAGES = "/srv/site-packages"


def is_left_out() -> bool:
    """Say whether system tests cannot run and need not."""
    return bool(missing_for_systemd()) and os.environ.get("CI") != "true"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect system tests where they cannot run."""
    if is_left_out():
        system = [item for item in items if item.get_closest_marker("system")]
        items[:] = [item for item in items if item not in system]
        config.hook.pytest_deselected(items=system)


def pytest_report_collectionfinish() -> str:
    """Say so in the report."""
    return f"system tests left out: {missing_for_systemd()}" if is_left_out() else ""


@pytest.fixture(scope="session")
def systemd_container() -> Iterator[Container]:
    """Boot one container for all tests; the checkout and the environment's packages are bound into it."""
    missing = missing_for_systemd()
    assert not missing, f"system tests: {missing}"
    site_packages = Path(sysconfig.get_path("purelib"))
    with booted({CHECKOUT: INSIDE_CHECKOUT, site_packages: INSIDE_SITE_PACKAGES}) as container:
        yield container


@pytest.fixture(scope="session")
def with_project(systemd_container: Container, tmp_path_factory: pytest.TempPathFactory) -> Container:
    """Install the project, once for all."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(CHECKOUT)], check=True)
    install_project(systemd_container, next(folder.glob("*.whl")), INSIDE_SITE_PACKAGES)
    return systemd_container


@pytest.fixture(scope="session")
def bare(with_project: Container) -> frozenset[str]:
    """List the files of the machine before anything was applied to it."""
    return everything(with_project)


@pytest.fixture(scope="session")
def card_drivers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what stands in for NVIDIA's drivers, once for all."""
    return build_drivers(tmp_path_factory.mktemp("drivers"))


@pytest.fixture(scope="module")
def with_cards(with_project: Container, bare: frozenset[str], card_drivers: Path) -> Iterator[PretendedCards]:
    """Lend the container two pretended cards."""
    assert bare
    with pretended_cards(with_project, card_drivers) as cards:
        yield cards


@pytest.fixture(scope="module")
def machine(
    with_project: Container,
    bare: frozenset[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """Put the laptop example on the machine, on free ports; take what was applied away again afterwards."""
    folder = tmp_path_factory.mktemp("loop")
    shutil.copy(LAPTOP / "models.yaml", folder)
    one = Machine(with_project, folder)
    one.edit(on_free_ports)
    for source in (LAPTOP / "models.lock.yaml", *sorted((LAPTOP / "models.lock").iterdir())):
        with_project.write(f"{INSIDE}/{source.relative_to(LAPTOP)}", source.read_text())
    yield one
    one.kloros_infra("destroy", "--yes")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print figures that are worth reading also where the test passes."""

    def aloud(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}\n")

    return aloud
