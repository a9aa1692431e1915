"""Wake up when a file is raised, written, renamed or removed: inotify(7), and a nudge from other threads."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

# A file that is being written is looked at once it is closed; links and folders have no such end.
_CHANGED = Mask.CLOSE_WRITE | Mask.MOVE | Mask.DELETE | Mask.ATTRIB | Mask.CREATE
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR


class FolderWakes:
    """Implements `agent.ports.Wakes` by folders, each with the names in it that matter; every name where none are.

    Folders need not be there: until they are, the nearest one above is followed. Other names are of no interest: what
    this process writes beside them must not wake it, nor that it takes away the flag.
    """

    def __init__(self, flag: Path, followed: Mapping[Path, Collection[str]]) -> None:
        self._flag = flag
        self._followed = {**followed, flag.parent: (flag.name,)}
        self._inotify = Inotify(sync_timeout=0)
        self._nudge = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._inotify.fd, select.POLLIN)
        self._poll.register(self._nudge, select.POLLIN)
        self._watch()

    def nudge(self) -> None:
        """End the wait, or the next one; from any thread."""
        os.eventfd_write(self._nudge, 1)

    def wait(self, timeout_s: float) -> bool:
        """Return at once when something has happened since the last call; False when the time is over."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_ms = max(0, round((deadline - time.monotonic()) * 1000))
            ready = {descriptor for descriptor, _ in self._poll.poll(left_ms)}
            if not ready:
                return False
            if self._is_nudged(ready) | self._is_changed(ready):
                return True

    def settle(self, time_s: float) -> None:
        """Let a time pass: of events that come in rows, few are followed."""
        time.sleep(time_s)  # nothing is waited for: this bounds how often a reconcile runs

    def close(self) -> None:
        self._inotify.close()
        os.close(self._nudge)

    def _is_nudged(self, ready: Collection[int]) -> bool:
        if self._nudge in ready:
            os.eventfd_read(self._nudge)
        return self._nudge in ready

    def _is_changed(self, ready: Collection[int]) -> bool:
        """Read all events; a folder that came or went is followed anew."""
        if self._inotify.fd not in ready:
            return False
        events = []
        while (event := self._inotify.sync_get()) is not None:
            events.append(event)
        # Before anything is read: what comes into a new folder from here on is told.
        self._watch()
        return any(self._matters(event) for event in events)

    def _matters(self, event: Event) -> bool:
        if event.mask & (Mask.Q_OVERFLOW | Mask.DELETE_SELF | Mask.MOVE_SELF):
            return True
        if event.watch is None or event.name is None:
            return False
        folder, is_folder = event.watch.path, bool(event.mask & Mask.ISDIR)
        if is_folder and any(one.is_relative_to(folder / event.name) for one in self._followed):
            return True
        names = self._followed.get(folder)
        if names is None or (names and str(event.name) not in names):
            return False
        if event.mask & Mask.DELETE and event.path == self._flag:
            return False
        # What is created is read when it is closed, or renamed to its name, but for a link.
        return not event.mask & Mask.CREATE or event.path is None or event.path.is_symlink()

    def _watch(self) -> None:
        """Follow each folder, or the nearest one above that is there; one that is followed already stays so."""
        for folder in self._followed:
            for place in (folder, *folder.parents):
                try:
                    # inotify_add_watch(2) gives the same watch for the same folder.
                    self._inotify.add_watch(place, _CHANGED | _GONE)
                except OSError:
                    continue
                break
