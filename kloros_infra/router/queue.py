"""The line of requests that wait for one model: the more urgent class first, then clients in turn, then arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil

from kloros_infra.ir.requests import Priority

RANKS = len(Priority)


class Line:
    """Who waits; nobody is in it twice, and whoever is first is found at once however long it is."""

    def __init__(self) -> None:
        # For each rank its clients, whose turn it is first; for each client the ids, oldest first.
        self._ranks: tuple[dict[str, dict[str, None]], ...] = tuple({} for _ in range(RANKS))
        self._places: dict[str, tuple[int, str]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def __iter__(self) -> Iterator[str]:
        """Go through the ids in the order in which they would be taken."""
        for clients in self._ranks:
            turns = [list(ids) for ids in clients.values()]
            for turn in range(max(map(len, turns), default=0)):
                yield from (ids[turn] for ids in turns if turn < len(ids))

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

    def take(self, may_go: Callable[[str], bool]) -> str | None:
        """Take the first request that may go; its client goes to the end of the turn."""
        id = next((id for id in self._heads() if may_go(id)), None)
        if id is None:
            id = next((id for id in self if may_go(id)), None)
        if id is not None:
            rank, client = self._places[id]
            self.remove(id)
            clients = self._ranks[rank]
            if client in clients:
                clients[client] = clients.pop(client)
        return id

    def first(self) -> str | None:
        """Name the request that is next."""
        return next(self._heads(), None)

    def position(self, id: str) -> int:
        """Say how many are taken up to and with this one, if nobody else comes: the first has 1."""
        return next(place for place, waiting in enumerate(self, 1) if waiting == id)

    def _heads(self) -> Iterator[str]:
        """Go through the first request of each client of the most urgent class that waits."""
        clients: dict[str, dict[str, None]] = next(filter(None, self._ranks), {})
        return (next(iter(ids)) for ids in clients.values())


def wait_s(ahead: int, *, at_a_time: int, each_s: float) -> float:
    """Estimate how long it takes until so many requests are done, for whoever asks when to come again."""
    return max(1.0, ceil(ahead / max(at_a_time, 1)) * each_s)
