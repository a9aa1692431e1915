"""This machine's time zone: /etc/localtime or TZ, by the C library (tzset(3))."""

from __future__ import annotations

from datetime import datetime


def local_time(naive: datetime) -> datetime:
    """Give the instant that a time without a zone means here.

    Where clocks show it twice, the second one; where they skip it, as much later as they skip.
    """
    # By PEP 495 the later of both readings, whichever `fold` that is.
    latest_s = max(naive.replace(fold=fold).timestamp() for fold in (0, 1))
    return datetime.fromtimestamp(latest_s).astimezone()
