"""Which addresses the router must reach beside loopback: what its unit allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from kloros_infra.ir.catalog_requests import RemoteHost

ANY = "any"


def as_address(host: str) -> IPv4Address | IPv6Address | None:
    """Read an IP address; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def host_of(url: str) -> str:
    """Give the host of a URL, without the brackets of an IPv6 address."""
    return urlsplit(url).hostname or ""


def addresses_of(hosts: Sequence[RemoteHost]) -> tuple[str, ...]:
    """List what `IPAddressAllow=` must name: only a name server knows what addresses a name has, so that is any."""
    found = [as_address(host) for host in _asked(hosts)]
    if None in found:
        return (ANY,)
    return tuple(dict.fromkeys(str(one) for one in found if one is not None and not one.is_loopback))


def _asked(hosts: Sequence[RemoteHost]) -> Iterator[str]:
    for host in hosts:
        yield host.address
        if host.toggle is not None:
            yield host_of(host.toggle)
