"""
The lock of a `Sync`, and what its threads wait on.

Promises: a thread is woken when there may be something for it, not at every change: of hundreds of
attempts under way each wake-up costs all others. Whatever is read or changed under the lock is
enough to decide whether to wait; nobody waits without having looked under it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from physicsrunner.runner.sync_queue import Queues


class Bells:
    """One lock, and a condition of it for each thread. `with bells:` holds the lock."""

    def __init__(self, queues: Queues) -> None:
        self.lock = threading.RLock()
        self.look = threading.Condition(self.lock)  #: something was touched
        self.live = threading.Condition(self.lock)  #: something is to be sent, or asked for
        self.bulk = threading.Condition(self.lock)  #: something large is to be sent
        self._queues = queues
        self._slow = 0

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def condition(self) -> threading.Condition:
        """Return a new condition of the lock."""
        return threading.Condition(self.lock)

    def send(self, *, live: bool = True) -> None:
        """There may be something to send; without *live* the caller sees to all but the large."""
        if live:
            self.live.notify()
        if self.helps:
            self.bulk.notify()

    @property
    def helps(self) -> bool:
        """Whether the sender of large files is wanted, for these or to help the other one."""
        return self._slow > 0 or self._queues.much()

    @contextmanager
    def slow(self) -> Iterator[None]:
        """A request that may take long: what else comes meanwhile must not wait for it."""
        with self.lock:
            self._slow += 1
            self.bulk.notify()
        try:
            yield
        finally:
            with self.lock:
                self._slow -= 1

    def all(self) -> None:
        """Wake everybody: it is over."""
        for each in (self.look, self.live, self.bulk):
            each.notify_all()
