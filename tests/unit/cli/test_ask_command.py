"""`ask`: where it looks for the router."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kloros_infra.cli.commands.ask_command import command, where_to_ask
from kloros_infra.client import Addresses
from kloros_infra.client.addresses import DIRECT_VARIABLE
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.routing import RoutedBus
from tests.factories import a_routed_model, a_routing_table, an_upstream

EXAMPLE = Path(__file__).parents[3] / "examples" / "laptop" / "models.yaml"
INSTALLED = RoutedBus(xsub="tcp://127.0.0.1:2", xpub="tcp://127.0.0.1:3", direct="tcp://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of one's own, to be in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a root with a routing table."""
    table = a_routing_table(a_routed_model("chat", an_upstream("chat-max")), bus=INSTALLED)
    routing = tmp_path / "root" / Layout().routing
    routing.parent.mkdir(parents=True)
    routing.write_text(table.model_dump_json())
    return tmp_path / "root"


def write_models_yaml(file: Path, direct: str) -> None:
    shutil.copytree(EXAMPLE.parent, file.parent, dirs_exist_ok=True)
    document = yaml.safe_load(EXAMPLE.read_text())
    file.write_text(yaml.safe_dump({**document, "bus": {"direct": direct}}))


def test_without_models_yaml_it_asks_as_usual(folder: Path, tmp_path: Path) -> None:
    assert where_to_ask(None, tmp_path) == Addresses()


def test_a_root_says_where_its_router_is_also_beside_a_models_yaml(folder: Path, root: Path) -> None:
    write_models_yaml(folder / "models.yaml", "tcp://127.0.0.1:7777")
    assert where_to_ask(None, root) == Addresses(INSTALLED.direct, INSTALLED.xsub, INSTALLED.xpub)


def test_models_yaml_says_so_where_it_lies_here_or_is_named(folder: Path, root: Path) -> None:
    write_models_yaml(folder / "models.yaml", "tcp://127.0.0.1:7777")
    assert where_to_ask(None, None).direct == "tcp://127.0.0.1:7777"
    assert where_to_ask(folder / "models.yaml", root).direct == "tcp://127.0.0.1:7777"


def test_a_models_yaml_that_is_named_must_be_there(folder: Path) -> None:
    with pytest.raises(ProblemsError):
        where_to_ask(folder / "models.yaml", None)


def test_a_variable_that_is_no_address_is_told_at_once(folder: Path, root: Path) -> None:
    environment = {DIRECT_VARIABLE: "127.0.0.1:6655"}
    result = CliRunner().invoke(command, ["hi", "--root", str(root), "--timeout", "60s"], env=environment)
    assert result.exit_code == 1
    assert "KI857: Not an address: direct is '127.0.0.1:6655'." in result.stderr
