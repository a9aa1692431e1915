"""The hub on loopback, asked by the real huggingface_hub client: what it has, what it lacks, and how it fails."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import close_session

from kloros_infra.adapters.hub import HubFiles
from kloros_infra.adapters.hub_patience import Patience
from kloros_infra.diagnostics import Diagnostic
from kloros_infra.errors import KlorosError, ObstacleError, UnreachableError
from kloros_infra.ir.lock import Origin
from kloros_infra.ir.weights_source import SourceFacts
from tests.fakes.hub import A_COMMIT, A_LATER_COMMIT, TOKEN, Fault, Hub, a_hub, a_repository

CONTENT = bytes(range(256)) * 10_000
URL = "hf://owner/name/sub/m.gguf"
SHORT = Patience(answer_s=0.5, piece_s=1.0, between_s=10.0)


@dataclass
class House:
    """A hub with one repository, a client of it, and the pauses that the client made."""

    hub: Hub
    source: HubFiles
    cache: Path
    pauses: list[float] = field(default_factory=list)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_hub({"owner/name": {"sub/m.gguf": CONTENT, "README.md": b"Read me."}}) as hub:
        pauses: list[float] = []
        source = HubFiles(endpoint=hub.endpoint, cache=tmp_path, patience=SHORT, pause=pauses.append)
        yield House(hub, source, tmp_path, pauses)


def problem_with(ask: Callable[[], object], kind: type[KlorosError]) -> Diagnostic:
    """Ask for what fails, and give the one problem."""
    with pytest.raises(kind) as caught:
        ask()
    (problem,) = caught.value.problems
    return problem


def test_large_files_are_vouched_for_and_files_in_git_are_not(house: House) -> None:
    house.hub.repositories["owner/name"].in_git = frozenset({"README.md"})

    large, small = house.source.look(URL), house.source.look("hf://owner/name/README.md")

    assert large == SourceFacts(Origin.HUB, A_COMMIT, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert small == SourceFacts(Origin.HUB, A_COMMIT, 8, None)
    assert b"".join(house.source.pieces("hf://owner/name/README.md", A_COMMIT)) == b"Read me."


def test_a_piece_is_asked_for_by_range_at_the_revision(house: House) -> None:
    assert house.source.read(URL, A_COMMIT, start=1000, length=100) == CONTENT[1000:1100]

    sha256 = hashlib.sha256(CONTENT).hexdigest()
    span = "bytes=1000-1099"
    assert house.hub.requests == [
        f"GET /owner/name/resolve/{A_COMMIT}/sub/m.gguf {span}",
        f"GET /storage/{sha256} {span}",
    ]
    assert not list(house.cache.iterdir())


def test_a_branch_a_tag_or_a_commit_in_the_source_is_followed(house: House) -> None:
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, {"sub/m.gguf": b"later"}, branch="v2.0")

    for revision in ("v2.0", A_LATER_COMMIT):
        url = f"hf://owner/name@{revision}/sub/m.gguf"
        assert house.source.look(url).revision == A_LATER_COMMIT
        assert house.source.read(url, None, start=0, length=10) == b"later"
        # What is passed counts more: the lock pins a commit.
        assert house.source.look(url, A_COMMIT).size_bytes == len(CONTENT)
    assert house.source.look(URL).revision == A_COMMIT


def test_a_branch_that_moved_leaves_the_old_commit_readable(house: House) -> None:
    house.hub.repositories["owner/name"].move(A_LATER_COMMIT, {"sub/m.gguf": b"later"})

    assert house.source.look(URL).revision == A_LATER_COMMIT
    assert house.source.read(URL, A_COMMIT, start=0, length=3) == CONTENT[:3]


def test_what_the_cache_holds_needs_no_hub(house: House) -> None:
    path = house.source.locate(URL, A_COMMIT)
    house.hub.faults += [Fault(503)] * 20

    assert house.source.is_reachable(URL, A_COMMIT)
    assert house.source.locate(URL, A_COMMIT) == path
    assert path.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_read_no_further_than_needed(house: House) -> None:
    house.hub.ignores_range = True

    assert house.source.read(URL, A_COMMIT, start=1000, length=100) == CONTENT[1000:1100]


def test_a_busy_hub_is_left_alone_for_as_long_as_it_asks(house: House) -> None:
    house.hub.faults += [Fault(429, {"Retry-After": "3"}), Fault(503), Fault(500)]

    assert house.source.look(URL).revision == A_COMMIT
    assert house.pauses == [3.0, 2.0, 4.0]


def test_patience_ends(house: House) -> None:
    house.hub.faults += [Fault(503)] * 20

    problem = problem_with(lambda: house.source.look(URL), UnreachableError)

    assert (problem.code, problem.detail) == ("KI311", f"{URL}: the hub answers 503.")
    assert house.pauses == [1.0, 2.0, 4.0]


def test_a_hub_that_wants_to_be_left_alone_for_long_is_not_waited_for(house: House) -> None:
    house.hub.faults.append(Fault(429, {"Retry-After": "3600"}))

    problem = problem_with(lambda: house.source.look(URL), UnreachableError)

    assert "the hub answers 429 and asks to wait 3600 s" in problem.detail
    assert house.pauses == []


def test_what_one_request_waited_for_in_vain_the_next_ones_do_not_wait_for(house: House) -> None:
    house.hub.faults += [Fault(503)] * 5
    problem_with(lambda: house.source.look(URL), UnreachableError)
    waited = list(house.pauses)

    problem_with(lambda: house.source.look(URL), UnreachableError)
    assert (house.pauses, len(house.hub.requests)) == (waited, 5)
    # As soon as it answers again there is patience again.
    assert house.source.look(URL).revision == A_COMMIT
    house.hub.faults.append(Fault(503))
    assert house.source.look(URL).revision == A_COMMIT


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_wants_to_be_left_alone_is_asked_nothing_more(house: House, status: int) -> None:
    house.hub.faults.append(Fault(status, {"Retry-After": "3600"}))

    problems = [problem_with(lambda: house.source.look(URL), UnreachableError) for _ in range(3)]

    assert {problem.detail for problem in problems} == {f"{URL}: the hub answers {status} and asks to wait 3600 s."}
    assert len(house.hub.requests) == 1


def test_a_hub_that_stalls_twice_is_asked_nothing_more(house: House) -> None:
    house.hub.faults += [Fault(is_stalled=True)] * 2

    for _ in range(4):
        problem_with(lambda: house.source.look(URL), UnreachableError)

    assert len(house.hub.requests) == 2


@pytest.mark.parametrize("only", ["HEAD", "GET"])
def test_a_hub_that_stalls_is_not_waited_for_longer_than_patience_lasts(house: House, only: str) -> None:
    house.hub.faults.append(Fault(is_stalled=True, only=only))
    began = time.monotonic()

    def ask() -> None:
        house.source.look(URL)
        house.source.read(URL, A_COMMIT, start=0, length=10)

    assert problem_with(ask, UnreachableError).code == "KI311"
    assert time.monotonic() - began < 5


def test_a_trickle_is_not_waited_for_either(house: House) -> None:
    house.hub.sends_slowly = True

    problem = problem_with(lambda: house.source.read(URL, A_COMMIT, start=0, length=10_000), UnreachableError)

    assert problem.code == "KI311"
    assert "in 1 s" in problem.detail


def test_a_gated_repository_asks_for_the_licence_and_a_token(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.hub.repositories["owner/name"].is_gated = True

    problem = problem_with(lambda: house.source.look(URL), ObstacleError)

    assert (problem.code, problem.detail) == ("KI324", f"{URL}: owner/name is gated.")
    assert "Accept the licence on the page of owner/name" in problem.hint
    assert "HF_TOKEN" in problem.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert house.source.look(URL).revision == A_COMMIT
    assert house.source.read(URL, None, start=0, length=3) == CONTENT[:3]
    # The token is the hub's: the host that stores the files does not see it.
    resolved, stored = house.hub.requests[-2:]
    assert resolved.endswith("with a token")
    assert stored.startswith("GET /storage/")
    assert "token" not in stored


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_good_enough_is_named(house: House, status: int) -> None:
    house.hub.faults.append(Fault(status))

    problem = problem_with(lambda: house.source.look(URL), ObstacleError)

    assert (problem.code, problem.detail) == ("KI324", f"{URL}: the hub answers {status}.")


def test_an_unknown_repository_is_named(house: House) -> None:
    problem = problem_with(lambda: house.source.look("hf://owner/nme/m.gguf"), ObstacleError)

    assert problem.code == "KI312"
    assert "no repository owner/nme" in problem.detail


def test_an_unknown_revision_is_named(house: House) -> None:
    problem = problem_with(lambda: house.source.look("hf://owner/name@v9/sub/m.gguf"), ObstacleError)

    assert (problem.code, "owner/name has no revision v9" in problem.detail) == ("KI312", True)
    assert problem.hint.startswith("Name a branch, a tag or a commit")


def test_a_pinned_commit_that_is_gone_says_how_to_go_on(house: House) -> None:
    problem = problem_with(lambda: house.source.look(URL, A_LATER_COMMIT), ObstacleError)

    assert problem.code == "KI312"
    assert "lock --upgrade MODEL" in problem.hint


@pytest.mark.parametrize(
    ("file", "files", "hint"),
    [
        ("Model-Q4_k_M.gguf", {"model-Q4_K_M.gguf": b"", "other.gguf": b""}, "Did you mean model-Q4_K_M.gguf?"),
        ("abc.gguf", {f"{letter * 9}.gguf": b"" for letter in "wxyz"}, "It has w{9}.gguf, x{9}.gguf, y{9}.gguf, …."),
        ("abc.gguf", {"zzzzzzzzz.gguf": b""}, "It has zzzzzzzzz.gguf."),
        ("abc.gguf", {"README.md": b""}, "It has no GGUF files."),
    ],
)
def test_an_unknown_file_suggests_what_the_repository_has(
    house: House, file: str, files: dict[str, bytes], hint: str
) -> None:
    house.hub.repositories["owner/name"] = a_repository(files)

    problem = problem_with(lambda: house.source.look(f"hf://owner/name/{file}"), ObstacleError)

    assert problem.code == "KI312"
    assert f"owner/name has no file {file}" in problem.detail
    for letter in "wxy":
        hint = hint.replace(f"{letter}{{9}}", letter * 9)
    assert problem.hint == hint


def test_a_list_of_files_that_cannot_be_had_is_no_second_problem(house: House) -> None:
    house.hub.faults.append(Fault(500, only="/api/"))

    problem = problem_with(lambda: house.source.look("hf://owner/name@main/absent.gguf"), ObstacleError)

    assert (problem.code, problem.hint) == ("KI312", "Check the spelling of owner, repository and file.")


def test_an_answer_that_makes_no_sense_is_reported(house: House) -> None:
    house.hub.faults.append(Fault(418))
    assert problem_with(lambda: house.source.look(URL), ObstacleError).detail == f"{URL}: the hub answers 418."

    house.hub.faults.append(Fault(200))
    problem = problem_with(lambda: house.source.look(URL), ObstacleError)
    assert (problem.code, "HF_ENDPOINT" in problem.hint) == ("KI312", True)


SOUND = {"X-Repo-Commit": A_COMMIT, "X-Linked-Size": "10", "X-Linked-ETag": '"x"'}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Repo-Commit": "../../../../evil"},
        {"X-Repo-Commit": "main"},
        {"X-Repo-Commit": A_COMMIT.upper()},
        {"X-Linked-Size": "-5"},
        {"X-Linked-Size": "9" * 40},
        {"X-Linked-Size": "9" * 5000},
        {"X-Linked-Size": "ten"},
    ],
    ids=lambda headers: "-".join(headers.values())[:20],
)
def test_a_commit_and_a_size_that_cannot_be_do_not_get_into_the_lock(house: House, headers: dict[str, str]) -> None:
    house.hub.faults.append(Fault(200, {**SOUND, **headers}))

    problem = problem_with(lambda: house.source.look(URL), ObstacleError)

    assert (problem.code, "HF_ENDPOINT" in problem.hint) == ("KI312", True)


def test_a_way_to_nowhere_is_reported(house: House) -> None:
    house.hub.faults.append(Fault(302, {**SOUND, "Location": "http://[bad/x"}, only="GET"))

    assert problem_with(lambda: house.source.read(URL, A_COMMIT, start=0, length=9), KlorosError).code in (
        "KI311",
        "KI312",
    )


@pytest.mark.parametrize("said", ["bytes 5-9/10", "bytes 0-9", "", "bytes 1000-1099/x"])
def test_another_part_than_the_one_asked_for_is_not_taken_for_it(house: House, said: str) -> None:
    headers = {"Content-Range": said} if said else {}
    house.hub.faults.append(Fault(206, headers, CONTENT[:100], only="GET"))

    problem = problem_with(lambda: house.source.read(URL, A_COMMIT, start=1000, length=100), ObstacleError)

    assert (problem.code, "from 1000 on" in problem.detail) == ("KI312", True)


@pytest.fixture
def changeable(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let a test change the environment: the client keeps a session with the proxies of the time when it was made."""
    for proxy in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    close_session()
    yield monkeypatch
    close_session()


SECRET = "hf_very_secret"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", f"{SECRET}ü"),
        ("ALL_PROXY", f"socks5://user:{SECRET}@127.0.0.1:1"),
        ("https_proxy", f"http://user:{SECRET}@127.0.0.1:port"),
        ("HTTP_PROXY", f"http://[{SECRET}"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_and_not_shown(
    house: House, changeable: pytest.MonkeyPatch, name: str, value: str
) -> None:
    changeable.setenv(name, value)

    problem = problem_with(lambda: house.source.look(URL), ObstacleError)

    assert problem.code == "KI331"
    assert name in problem.detail
    assert SECRET not in f"{problem.detail}{problem.hint}"


def test_a_setting_is_not_blamed_for_a_hub_that_does_not_answer(tmp_path: Path, changeable: pytest.MonkeyPatch) -> None:
    with a_dead_port() as port:
        source = HubFiles(endpoint=f"http://127.0.0.1:{port}", cache=tmp_path, patience=SHORT)
        changeable.setenv("ALL_PROXY", "http://127.0.0.1:1")
        changeable.setenv("HTTPS_PROXY", "127.0.0.1:1")
        changeable.setenv("HF_TOKEN", SECRET)
        changeable.setenv("NO_PROXY", "127.0.0.1")
        assert problem_with(lambda: source.look(URL), UnreachableError).code == "KI311"


@pytest.mark.parametrize("endpoint", ["ftp://mirror", "mirror.example", "http://[bad", "http://host:99999", "http://"])
def test_an_address_of_a_mirror_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    source = HubFiles(endpoint=endpoint, cache=tmp_path, patience=SHORT)

    problem = problem_with(lambda: source.look(URL), ObstacleError)

    assert (problem.code, "HF_ENDPOINT" in problem.detail) == ("KI331", True)


def test_a_name_that_the_hub_cannot_have_is_an_obstacle(house: House) -> None:
    url = "hf://-owner-/..name/m.gguf"

    assert problem_with(lambda: house.source.locate(url, None), ObstacleError).code == "KI312"
    assert not house.source.is_reachable(url, None)


@contextmanager
def a_dead_port() -> Iterator[int]:
    """Take a port on which nobody listens: a connection to it is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_hub_at_all_is_unreachable_and_asked_once(tmp_path: Path) -> None:
    with a_dead_port() as port:
        source = HubFiles(endpoint=f"http://127.0.0.1:{port}", cache=tmp_path, patience=SHORT)
        problems = [
            problem_with(lambda: source.look(URL), UnreachableError),
            problem_with(lambda: source.read(URL, None, start=0, length=1), UnreachableError),
            problem_with(lambda: source.locate(URL, None), UnreachableError),
        ]
        assert not source.is_reachable(URL, None)

    assert {problem.code for problem in problems} == {"KI311"}
    assert len({problem.detail for problem in problems}) == 1
