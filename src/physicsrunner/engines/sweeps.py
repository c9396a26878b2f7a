"""
Finding the processes of programs that have ended, for many programs by one look at all processes.

Promises: `find` answers with what lives after it was called. Whoever asks while a look is under way
shares the next one, so that a thousand programs that end together cost a few looks. Of a program
that began a short time ago only the pids that were given since then are looked at, and of these
only those that are not in a session of which it is known whose it is.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from physicsrunner.engines.processes import ProcessId, outside, pids_since, tags_of


class Sweeps:
    """Looks for processes by the tags in the variable *name* of their environment."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._begun = 0
        self._done = 0
        self._looking = False
        self._found: dict[str, list[ProcessId]] = {}

    def find(self, tag: str, since: ProcessId, others: Collection[int] = ()) -> list[ProcessId]:
        """
        Return the living processes that carry *tag*.

        Parameters
        ----------
        since
            The first of them.
        others
            Leaders of sessions in which there is none of them. A session is entered by being
            started in it alone.
        """
        few = pids_since(since)
        if few is not None:
            return self._look(outside(few, others)).get(tag, [])
        with self._changed:
            wanted = self._begun + 1
            while self._done < wanted:
                if self._looking:
                    self._changed.wait()
                else:
                    self._sweep()
            return list(self._found.get(tag, ()))

    def _sweep(self) -> None:
        """Look at all processes; the lock is not held meanwhile."""
        self._looking = True
        self._begun += 1
        number = self._begun
        self._changed.release()
        found: dict[str, list[ProcessId]] = {}
        try:
            found = self._look(None)
        finally:
            self._changed.acquire()
            self._looking = False
            self._found, self._done = found, number
            self._changed.notify_all()

    def _look(self, pids: Iterable[int] | None) -> dict[str, list[ProcessId]]:
        found: dict[str, list[ProcessId]] = {}
        for process, tags in tags_of(self._name, pids):
            for tag in tags:
                found.setdefault(tag, []).append(process)
        return found
