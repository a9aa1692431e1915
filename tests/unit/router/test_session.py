"""Sessions: where each was served last, bounded in number and age."""

from __future__ import annotations

from kloros_infra.router.session import Sessions


def test_a_session_is_remembered_until_its_lease_ends() -> None:
    sessions = Sessions()
    sessions.served("s", "code-max", until=10)
    assert sessions.target("s", 9.9) == "code-max"
    assert sessions.target("s", 10) is None
    assert len(sessions) == 0
    assert sessions.target("unheard of", 0) is None


def test_the_latest_target_counts_and_the_longest_unused_is_forgotten() -> None:
    sessions = Sessions(most=2)
    sessions.served("a", "x", until=10)
    sessions.served("b", "x", until=10)
    sessions.served("a", "y", until=20)
    sessions.served("c", "x", until=10)
    assert [sessions.target(name, 0) for name in "abc"] == ["y", None, "x"]


def test_a_target_that_ended_has_no_sessions_any_more() -> None:
    sessions = Sessions()
    sessions.served("a", "x", until=10)
    sessions.served("b", "y", until=10)
    sessions.forget("x")
    assert [sessions.target(name, 0) for name in "ab"] == [None, "y"]
