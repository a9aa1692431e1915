"""What a repository holds, as the real client lists it from a hub on loopback."""

from __future__ import annotations

import socket

import pytest

from kloros_infra.adapters.hub_repository import list_files
from kloros_infra.editing.hub_reference import HubFile, HubReference
from kloros_infra.errors import ObstacleError, UnreachableError
from tests.fakes.hub import A_COMMIT, A_LATER_COMMIT, Fault, a_hub, a_repository

FILES = {"a-Q4_0.gguf": b"12345", "sub/b-Q8_0.gguf": b"123", "README.md": b"#"}


def test_files_come_with_their_sizes() -> None:
    with a_hub({"owner/name": FILES}) as hub:
        found = list_files(HubReference("owner/name"), endpoint=hub.endpoint)
    assert set(found) == {HubFile("a-Q4_0.gguf", 5), HubFile("sub/b-Q8_0.gguf", 3), HubFile("README.md", 1)}
    assert len(hub.requests) == 1


def test_a_revision_has_files_of_its_own() -> None:
    repository = a_repository(FILES)
    repository.move(A_LATER_COMMIT, {"new.gguf": b"1"})
    with a_hub({"owner/name": repository}) as hub:
        assert list_files(HubReference("owner/name"), endpoint=hub.endpoint) == (HubFile("new.gguf", 1),)
        assert len(list_files(HubReference("owner/name", A_COMMIT), endpoint=hub.endpoint)) == len(FILES)
        with pytest.raises(ObstacleError, match=r"KI312.*no revision v9"):
            list_files(HubReference("owner/name", "v9"), endpoint=hub.endpoint)


def test_what_the_hub_does_not_give_is_explained() -> None:
    gated = a_repository(FILES)
    gated.is_gated = True
    with a_hub({"owner/gated": gated}) as hub:
        with pytest.raises(ObstacleError, match=r"KI324.*gated"):
            list_files(HubReference("owner/gated"), endpoint=hub.endpoint)
        with pytest.raises(ObstacleError, match=r"KI312.*no repository"):
            list_files(HubReference("owner/other"), endpoint=hub.endpoint)
        with pytest.raises(ObstacleError, match=r"KI312.*called so"):
            list_files(HubReference("owner/..name"), endpoint=hub.endpoint)
        hub.faults.append(Fault(503))
        with pytest.raises(UnreachableError, match=r"KI311.*503"):
            list_files(HubReference("owner/gated"), endpoint=hub.endpoint)


@pytest.mark.parametrize(
    "body",
    [b"<html>Log in</html>", b"[1]", b'{"siblings": [{"x": 1}]}', b'{"siblings": 5}', b"{}"],
    ids=["page", "list", "no names", "no list", "nothing"],
)
def test_an_answer_that_is_no_hub_s_is_explained(body: bytes) -> None:
    with a_hub({"owner/name": FILES}) as hub:
        hub.faults.append(Fault(200, {"Content-Type": "application/json"}, body))
        with pytest.raises(ObstacleError, match=r"KI312.*none of a Hugging Face hub"):
            list_files(HubReference("owner/name"), endpoint=hub.endpoint)


def test_no_hub_at_all_is_unreachable() -> None:
    with socket.socket() as taken:
        # Bound, yet nobody listens: a connection is refused.
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="KI311"):
            list_files(HubReference("owner/name"), endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
