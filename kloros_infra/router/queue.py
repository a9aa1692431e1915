"""The line of requests that wait for one model: the more urgent class first, then clients in turn, then arrival.

No class waits for ever: one that MOST_PASSED more urgent requests have gone before has the next turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import ceil

from kloros_infra.ir.requests import Priority

RANKS = len(Priority)
MOST_PASSED = 8
"""However many urgent ones come, each class gets a tenth of the places, and the urgent wait for two others at most."""

Clients = dict[str, dict[str, None]]
"""Of each client its ids, oldest first; the client whose turn it is comes first."""


class Line:
    """Who waits; nobody is in it twice, and whoever is first is found at once however long it is."""

    def __init__(self) -> None:
        self._ranks: tuple[Clients, ...] = tuple({} for _ in range(RANKS))
        self._places: dict[str, tuple[int, str]] = {}
        self._passed = [0] * RANKS
        """How many more urgent ones have gone since each class had its turn, as long as anyone of it waits."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def __iter__(self) -> Iterator[str]:
        """Go through the ids in the order in which they would be taken."""
        classes = {rank: deque(_in_turn(clients)) for rank, clients in enumerate(self._ranks) if clients}
        passed = list(self._passed)
        while len(classes) > 1:
            rank = _next_rank(classes, passed)
            yield classes[rank].popleft()
            if not classes[rank]:
                del classes[rank]
            _pass(classes, passed, rank)
        yield from (id for ids in classes.values() for id in ids)

    def add(self, id: str, *, client: str, rank: int) -> None:
        """Put a request at the end of its client's requests of its class."""
        self._places[id] = rank, client
        self._ranks[rank].setdefault(client, {})[id] = None

    def remove(self, id: str) -> None:
        """Take a request out, wherever it stands; its client keeps its turn."""
        rank, client = self._places.pop(id)
        clients = self._ranks[rank]
        del clients[client][id]
        if not clients[client]:
            del clients[client]
        if not clients:
            self._passed[rank] = 0

    def take(self, may_go: Callable[[str], bool]) -> str | None:
        """Take the first request that may go; its client goes to the end of the turn."""
        is_due = max(self._passed) >= MOST_PASSED
        id = None if is_due else next((id for id in self._heads() if may_go(id)), None)
        if id is None:
            id = next((id for id in self if may_go(id)), None)
        if id is not None:
            rank, client = self._places[id]
            self.remove(id)
            clients = self._ranks[rank]
            if client in clients:
                clients[client] = clients.pop(client)
            _pass([rank for rank, clients in enumerate(self._ranks) if clients], self._passed, rank)
        return id

    def first(self) -> str | None:
        """Name the most urgent request that waits."""
        return next(self._heads(), None)

    def position(self, id: str) -> int:
        """Say how many are taken up to and with this one, if nobody else comes: the first has 1."""
        return next(place for place, waiting in enumerate(self, 1) if waiting == id)

    def _heads(self) -> Iterator[str]:
        """Go through the first request of each client of the most urgent class that waits."""
        clients: Clients = next(filter(None, self._ranks), {})
        return (next(iter(ids)) for ids in clients.values())


def _in_turn(clients: Clients) -> Iterable[str]:
    """Go through the requests of one class, a client after the other."""
    turns = [list(ids) for ids in clients.values()]
    for turn in range(max(map(len, turns), default=0)):
        yield from (ids[turn] for ids in turns if turn < len(ids))


def _next_rank(waiting: Collection[int], passed: Sequence[int]) -> int:
    """Say whose turn it is: that of the class that was passed too often, else that of the most urgent."""
    due = max(waiting, key=lambda rank: passed[rank])
    return due if passed[due] >= MOST_PASSED else min(waiting)


def _pass(waiting: Iterable[int], passed: list[int], rank: int) -> None:
    """Note for those that wait that one of a class has gone."""
    passed[rank] = 0
    for other in waiting:
        passed[other] += other > rank


def wait_s(ahead: int, *, at_a_time: int, each_s: float) -> float:
    """Estimate how long it takes until so many requests are done, for whoever asks when to come again."""
    return max(1.0, ceil(ahead / max(at_a_time, 1)) * each_s)
