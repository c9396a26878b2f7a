"""
Which agent is kept free for a run that has waited for long (`core.schedule`).

Promises: one agent a run, the first that asks and could hold it; who does not ask any more is
forgotten after `CLAIM_S`; no agent is kept free for a run that a cap holds back. The head of the
queue is read at most once a second, whoever asks. What is remembered here may be lost: the next
question brings it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from physicsrunner.core.resources import Room, labels_of
from physicsrunner.core.run import RunSummary
from physicsrunner.core.schedule import overdue, queue_place
from physicsrunner.store.base import Store
from physicsrunner.wire.messages import LeaseRequest

HEAD: Final = 50  # runs that are looked at
REMEMBER_S: Final = 1.0
CLAIM_S: Final = 60.0  # an agent with something free asks every ten seconds


class Patience:
    """Says which runs an agent may be given. Thread-safe."""

    def __init__(self, store: Store, held_back: Callable[[RunSummary], bool]) -> None:
        self._store = store
        self._held_back = held_back
        self._lock = threading.Lock()
        self._head: tuple[float, Sequence[RunSummary]] | None = None
        self._claims: dict[str, tuple[str, float]] = {}

    def last_place(self, request: LeaseRequest, free: Room, now: float) -> tuple[int, int] | None:
        """Return the place in the queue behind which the agent is given nothing; None: no limit."""
        if request.resources is None:
            return None
        total = Room(**vars(request.resources))
        labels = labels_of(request.agent, request.labels)
        for run in overdue(self._first(now), free, total, labels, now):
            if not self._held_back(run) and self._claim(run.id, request.agent, now):
                return queue_place(run)
        return None

    def _first(self, now: float) -> Sequence[RunSummary]:
        with self._lock:
            if self._head is not None and 0 <= now - self._head[0] < REMEMBER_S:
                return self._head[1]
        found = self._store.oldest_waiting(HEAD)
        with self._lock:
            self._head = now, found
        return found

    def _claim(self, run: str, agent: str, now: float) -> bool:
        """Have *agent* be the one that is kept free for *run*; False if another one is."""
        with self._lock:
            live = {key: one for key, one in self._claims.items() if 0 <= now - one[1] < CLAIM_S}
            mine = live.get(run, (agent, now))[0] == agent
            if mine:
                live[run] = agent, now
            self._claims = live
            return mine
