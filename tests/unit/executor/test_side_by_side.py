"""Tasks in threads: everything is done, errors arrive, and nobody is waited for in vain."""

from __future__ import annotations

import threading

import pytest

from kloros_infra.executor.side_by_side import side_by_side


def test_every_task_is_done_once() -> None:
    tasks = [lambda number=number: number for number in range(50)]

    assert sorted(side_by_side(tasks, most=4)) == list(range(50))
    assert list(side_by_side([], most=4)) == []


def test_no_more_than_asked_for_run_at_a_time() -> None:
    running = threading.Semaphore(2)

    def task() -> bool:
        has_room = running.acquire(blocking=False)
        running.release() if has_room else None
        return has_room

    assert all(side_by_side([task] * 100, most=2))


def test_what_a_task_raises_arrives() -> None:
    def fail() -> int:
        raise LookupError("it is not there")

    with pytest.raises(LookupError, match="it is not there"):
        list(side_by_side([fail, lambda: 1], most=1))


def test_a_task_that_hangs_does_not_keep_the_others_results_back() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait(30)
        return "late"

    results = side_by_side([hang, lambda: "soon"], most=2)

    assert next(results) == "soon"
    release.set()
    assert list(results) == ["late"]
