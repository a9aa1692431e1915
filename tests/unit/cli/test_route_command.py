"""`route explain`: what it reads, supposes, prints and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from kloros_infra.cli.commands import route_command
from kloros_infra.cli.program import COMMANDS
from kloros_infra.errors import ProblemsError
from kloros_infra.ir.layout import Layout
from kloros_infra.ir.requests import ClientAccess, Mark
from kloros_infra.ir.routing import RoutedPurpose, RoutingTable
from tests.factories import a_routed_model, a_routing_table, an_upstream
from tests.routed import a_client, a_host, served_by

EXAMPLE = Path(__file__).parents[3] / "examples" / "laptop" / "models.yaml"


def a_table(profile_file: Path, *, unknown_clients: ClientAccess = ClientAccess.ALLOW) -> RoutingTable:
    code = RoutedPurpose(
        name="code",
        candidates=("coder", "chat"),
        otherwise=None,
        is_default=False,
        marks=(Mark(contains=("Traceback",)), Mark(sources=("kairos",)), Mark(min_tokens=5000)),
    )
    talk = RoutedPurpose(name="talk", candidates=("chat",), otherwise=None, is_default=True)
    table = a_routing_table(
        a_routed_model("coder", an_upstream("coder-max", context_tokens=32000)),
        a_routed_model("chat", an_upstream("chat-max"), an_upstream("chat-mid")),
        profiles=("max", "mid"),
        profile_file=str(profile_file),
        purposes=(code, talk),
    )
    client = a_client("voice", sources=("kloros-voice",), purposes=("talk",))
    host = a_host(models={"coder": "coder:7b", "chat": "chat:7b"}, priority=60)
    return served_by(table, host, clients=(client,), unknown_clients=unknown_clients)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    install(tmp_path, a_table(tmp_path / "gpu_profile"))
    return tmp_path


def install(root: Path, table: RoutingTable) -> None:
    routing = root / Layout().routing
    routing.parent.mkdir(parents=True, exist_ok=True)
    routing.write_text(table.model_dump_json())


def run(root: Path, *words: str) -> Result:
    return CliRunner().invoke(route_command.command, ["explain", "--root", str(root), *words])


def explained(root: Path, *words: str) -> dict[str, object]:
    """Give the target that is chosen, with the rest of what is said."""
    result = run(root, "--json", *words)
    assert result.exit_code == 0, result.output
    data: dict[str, object] = json.loads(result.output)
    chosen = data["chosen"]
    assert isinstance(chosen, dict)
    return data | chosen


def problem(root: Path, *words: str) -> str:
    result = run(root, *words)
    assert isinstance(result.exception, ProblemsError), result.output
    (found,) = result.exception.problems
    return f"{found.code}: {found.detail} {found.hint}"


def test_it_is_a_command() -> None:
    assert COMMANDS["route"]


def test_text_tells_the_whole_decision(root: Path) -> None:
    result = run(root, "--purpose", "code", "--down", "coder-max")
    assert result.exit_code == 0, result.output
    assert result.output == (
        "Profile 'max', priority interactive, by purpose 'code'.\n"
        "1. coder\n"
        "   score 1.2: specialist 0, context 3.2, cost -2\n"
        "   coder-max at 127.0.0.1:8601, supposed to be down: down\n"
        "   rig/coder at 192.0.2.7:11434, supposed to be ready\n"
        "2. chat\n"
        "   score -1.8: specialist 0, context 0.2, cost -2\n"
        "   chat-max at 127.0.0.1:8601, supposed to be ready\n"
        "   rig/chat at 192.0.2.7:11434, supposed to be ready\n"
        "Goes to rig/coder: 'coder' is choice 1 of 2 for purpose 'code'. "
        "It goes to 'rig/coder', after 'coder-max' (down).\n"
    )


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ((), "chat-max"),
        (("--model", "coder"), "coder-max"),
        (("--prompt", "a Traceback (most recent call last)"), "coder-max"),
        (("--source", "kairos"), "coder-max"),
        (("--tokens", "5000"), "coder-max"),
        (("--source", "kloros-voice", "--prompt", "Traceback"), "chat-max"),
        (("--client", "voice", "--prompt", "Traceback"), "chat-max"),
        (("--purpose", "code", "--down", "coder-max", "--down", "rig/coder"), "chat-max"),
        (("--purpose", "code", "--down", "coder-max", "--down", "rig"), "chat-max"),
        (("--purpose", "code", "--profile", "mid"), "rig/coder"),
        (("--purpose", "code", "--min-context-tokens", "1000"), "coder-max"),
    ],
)
def test_a_request_is_described_by_options(root: Path, words: tuple[str, ...], target: str) -> None:
    assert explained(root, *words)["target"] == target


def test_limits_are_the_requests(root: Path) -> None:
    data = explained(root, "--max-latency", "2s", "--cost-tier", "low", "--language", "de")
    assert data["max_latency_s"] == 2.0


def test_the_active_profile_is_the_one_that_is_written(root: Path) -> None:
    assert explained(root)["profile"] == "max"
    (root / "gpu_profile").write_text("mid\n")
    assert explained(root)["profile"] == "mid"
    (root / "gpu_profile").write_text("gone\n")
    assert explained(root)["profile"] == "max"


def test_a_request_that_nobody_would_serve_exits_with_two(root: Path) -> None:
    result = run(root, "--down", "chat-max", "--down", "rig")
    assert result.exit_code == 2
    assert "Refused for now: KI809" in result.output
    result = run(root, "--kind", "embedding", "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["refused"]["code"] == "KI805"


def test_names_that_are_none_are_refused(root: Path) -> None:
    assert problem(root, "--profile", "maxx").startswith("KI537: There is no profile 'maxx'.")
    assert problem(root, "--client", "voices").startswith("KI537: There is no client 'voices'.")
    assert "Did you mean 'coder-max'?" in problem(root, "--down", "coder-mx")


def test_a_client_that_is_refused_is_told_so(root: Path) -> None:
    install(root, a_table(root / "gpu_profile", unknown_clients=ClientAccess.REFUSE))
    assert problem(root, "--source", "stranger").startswith("KI860")
    assert explained(root, "--source", "kloros-voice")["client"] == "voice"


def test_without_a_table_it_says_so(tmp_path: Path) -> None:
    assert problem(tmp_path).startswith("KI813")


def test_a_models_yaml_is_compiled_instead(tmp_path: Path) -> None:
    site = shutil.copytree(EXAMPLE.parent, tmp_path / "site") / "models.yaml"
    data = explained(tmp_path / "nowhere", "--file", str(site))
    assert data["profile"] in yaml.safe_load(site.read_text())["profiles"]
