"""Remote hosts: their health, their owners' switches, and when to ask them next."""

from __future__ import annotations

from dataclasses import dataclass, field

from kloros_infra.ir.announcements import News
from kloros_infra.ir.routing import RoutedHost, RoutingTable
from kloros_infra.router.agenda import Agenda, Due
from kloros_infra.router.board import Effects, Remote, Station, a_remote, remote_name
from kloros_infra.router.effects import Announce, Poll, Target
from kloros_infra.router.events import Toggled, Verdict
from kloros_infra.router.instance import POLL_LOST_S

DOUBT_POLL_S = 0.5
DOWN_POLL_S = 5.0
"""A host that is away is asked at least this often, so that it serves soon after it is back."""


@dataclass(slots=True, eq=False)
class Host:
    """A remote host: whether it is there as far as is known, and what it serves."""

    routed: RoutedHost
    is_enabled: bool = True
    is_up: bool = True
    has_answered: bool = False
    """Until it has, one failure is enough: nothing speaks for it."""
    failures: int = 0
    polled_at: float | None = None
    told: News | None = None
    """How it was found last: what is found at first is no news."""
    stations: dict[str, Remote] = field(default_factory=dict)


class Hosts:
    """Owns the hosts by name; `changed` are the stations that opened or closed since someone looked."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.hosts: dict[str, Host] = {}
        self.changed: dict[str, Station] = {}

    def replace(self, table: RoutingTable, now: float) -> None:
        """Serve by a table: a host that is reached as before keeps what is known of it."""
        before, self.hosts = self.hosts, {}
        for routed in table.hosts:
            known = before.get(routed.name)
            host = known if known is not None and _place(known.routed) == _place(routed) else Host(routed)
            host.routed = routed
            old, host.stations = host.stations, {}
            for model_id in routed.models:
                name = remote_name(routed, model_id)
                station = host.stations[name] = old.get(name) or a_remote(routed, model_id)
                station.host = routed
            self.hosts[routed.name] = host
            self._reopen(host)
            self._agenda.note(now, Due.POLL_HOST, routed.name)

    def of(self, target: str) -> Host | None:
        """Find the host of a target, by its own name or by the target's."""
        return self.hosts.get(target) or self.hosts.get(target.partition("/")[0])

    def polled(self, host: Host, verdict: Verdict, now: float, out: Effects) -> None:
        """Take in the answer to a poll; a host that loads a model is there."""
        host.polled_at = None
        host.failures = host.failures + 1 if verdict is Verdict.FAILING else 0
        host.has_answered = host.has_answered or host.failures == 0
        may_fail = host.is_up and host.has_answered
        is_up = host.failures == 0 or (may_fail and host.failures < host.routed.health_failures)
        if is_up is not host.is_up:
            host.is_up = is_up
            self._reopen(host)
        if host.is_enabled:
            _tell(host, News.REMOTE_CONNECTED if is_up else News.REMOTE_UNAVAILABLE, out)
        self._agenda.move(now + self._interval_s(host), Due.POLL_HOST, host.routed.name)

    def doubt(self, station: Station, now: float) -> None:
        """Take in that a request has failed there: whoever waits for it looks elsewhere if it is given no more."""
        self.changed[station.name] = station
        if (host := self.of(station.name)) is not None:
            self.poll_at_once(host, now)

    def poll_at_once(self, host: Host, now: float) -> None:
        """Poll as soon as may be, unless an answer is awaited."""
        if host.polled_at is None:
            self._agenda.move(now, Due.POLL_HOST, host.routed.name)

    def poll(self, host: Host, now: float, out: Effects) -> None:
        """Ask for its health, unless an answer is still awaited or it is switched off."""
        if not host.is_enabled:
            return
        routed = host.routed
        lost_s = max(POLL_LOST_S, 2 * routed.health_timeout_s)
        if host.polled_at is not None and now < host.polled_at + lost_s:
            self._agenda.note(host.polled_at + lost_s, Due.POLL_HOST, routed.name)
            return
        host.polled_at = now
        out.append(Poll(_poll_target(routed), routed.health_path, routed.health_timeout_s))
        self._agenda.move(now + lost_s, Due.POLL_HOST, routed.name)

    def toggled(self, event: Toggled, now: float, out: Effects) -> None:
        """Take in that its owner has switched it on or off; what it is doing it may finish."""
        host = self.hosts.get(event.host)
        if host is None or host.is_enabled is event.is_enabled:
            return
        host.is_enabled = event.is_enabled
        # Whether one that is switched on again can be reached is for the next poll to say.
        if not event.is_enabled:
            _tell(host, News.REMOTE_DISABLED, out)
        self._reopen(host)
        self._agenda.note(now, Due.POLL_HOST, event.host)

    def _reopen(self, host: Host) -> None:
        for name, station in host.stations.items():
            station.is_open = host.is_enabled and host.is_up
            self.changed[name] = station

    def _interval_s(self, host: Host) -> float:
        if not host.is_up:
            return min(host.routed.health_interval_s, DOWN_POLL_S)
        return DOUBT_POLL_S if host.failures else host.routed.health_interval_s


def _tell(host: Host, news: News, out: Effects) -> None:
    """Announce how a host is, where it was found otherwise before."""
    if host.told not in (None, news):
        out.append(Announce(news, host.routed.name))
    host.told = news


def _place(routed: RoutedHost) -> tuple[object, ...]:
    return routed.kind, routed.address, routed.port, routed.path, routed.is_tls


def _poll_target(routed: RoutedHost) -> Target:
    return Target(
        name=routed.name,
        kind=routed.kind,
        address=routed.address,
        port=routed.port,
        path=routed.path,
        is_tls=routed.is_tls,
        credential=routed.credential,
        is_local=False,
    )
